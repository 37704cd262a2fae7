"""A full accept queue and those that met it, over time: who waits in it, and who waits for an answer at all.

It measures nothing. Taught in: 04a_what_else_happens_at_the_door
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet, title

_WAITING, _FULL, _UNHEARD = "#56b4e9", "#d55e00", "#e69f00"
_PAUSE = 0.3  # seconds without a connection: what comes after it is what the clients' kernels sent again


@dataclass(frozen=True, slots=True)
class Crowd:
    """`clients` that connected at 0 s. samples: seconds and connections in the queue; answered: seconds of each answer.

    limit: the backlog given to listen.
    """

    clients: int
    limit: int
    samples: Sequence[tuple[float, int]]
    answered: Sequence[float]

    @property
    def unheard(self) -> int:
        return self.clients - len(self.answered)

    @property
    def second_syn(self) -> float | None:
        """The time at which the queue fills again after its first pause; None if it never does."""
        filled = [at for at, waiting in self.samples if waiting]
        return next((after for before, after in pairwise(filled) if after - before > _PAUSE), None)


def full_queue(crowd: Crowd) -> Picture:
    """Above, the queue; below, the clients that have no answer yet. It ends a little after the last answer."""
    finding = f"The queue is soon empty, and {crowd.unheard} of {crowd.clients} clients got no answer"
    until = max([*crowd.answered, crowd.second_syn or 0.0, 0.2]) + 0.3
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    queue, clients = figure.subplots(2, sharex=True)
    _queue(queue, crowd)
    _clients(clients, crowd, until)
    _second_syn((queue, clients), crowd)
    clients.set_xlim(0, until)
    clients.set_xlabel(f"seconds (n = {len(crowd.samples)} samples of the queue)", fontsize=9)
    title(queue, finding)
    return Picture(figure, f"{finding}. {_in_words(crowd)}")


def _queue(axes: Axes, crowd: Crowd) -> None:
    times, waiting = zip(*crowd.samples, strict=True)
    axes.fill_between(times, waiting, step="post", color=_WAITING, alpha=0.5, hatch="///", edgecolor=INK, linewidth=0)
    axes.step(times, waiting, where="post", color=INK, linewidth=1.2)
    axes.axhline(crowd.limit, color=_FULL, linestyle="--", linewidth=1.4)
    axes.text(1, crowd.limit, f"backlog {crowd.limit}", color=_FULL, fontsize=9, ha="right", va="bottom",
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_ylim(0, 1.35 * max(crowd.limit, *waiting))
    axes.set_ylabel("in the accept queue", fontsize=9)
    quiet(axes)


def _clients(axes: Axes, crowd: Crowd, until: float) -> None:
    times = [0.0, *sorted(crowd.answered), until]
    left = [crowd.clients, *(crowd.clients - 1 - index for index in range(len(crowd.answered))), crowd.unheard]
    axes.fill_between(times, left, step="post", color=_UNHEARD, alpha=0.35, linewidth=0)
    axes.step(times, left, where="post", color=INK, linewidth=1.2)
    axes.fill_between([0, until], crowd.unheard, color=_UNHEARD, alpha=0.6, hatch="xxx", edgecolor=INK, linewidth=0)
    if crowd.unheard:
        axes.text(until / 2, crowd.unheard / 2, f"{crowd.unheard} that got none", ha="center", va="center",
                  fontsize=9, color=INK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
    axes.set_ylim(0, 1.15 * crowd.clients)
    axes.set_ylabel("clients without an answer", fontsize=9)
    quiet(axes)


def _second_syn(both: Sequence[Axes], crowd: Crowd) -> None:
    if crowd.second_syn is None:
        return
    for axes in both:
        axes.axvline(crowd.second_syn, color=FAINT, linestyle=":", linewidth=1.6)
    both[0].text(crowd.second_syn, 0.98, " the second SYN", transform=both[0].get_xaxis_transform(), va="top",
                 fontsize=9, color=INK)  # fmt: skip


def _in_words(crowd: Crowd) -> str:
    most = max(waiting for _, waiting in crowd.samples)
    again = "" if crowd.second_syn is None else f" It fills again after {crowd.second_syn:.1f} s, by their second SYN."
    answered = f"{len(crowd.answered)} were answered."
    return f"With a backlog of {crowd.limit}, the queue held at most {most}.{again} {answered}"
