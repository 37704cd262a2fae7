"""The accept queue over time as a figure. Only `watch_accept_queue` measures, in a thread of the kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lab_support.instruments.queue_history import EVERY, QueueHistory, QueueWatch, watching_accept_queue
from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet, title
from lab_support.notebook.servers.live_server import Server

_WAITING, _FULL = "#56b4e9", "#d55e00"


@contextmanager
def watch_accept_queue(what: Server | int, every: float = EVERY) -> Iterator[QueueWatch]:
    """Look at the accept queue of a server, or of a port, every `every` seconds while the body runs.

    `watch.history()` has the observations. The load must come from another process, or the kernel measures itself.
    Raises `NothingListens`.
    """
    with watching_accept_queue(what if isinstance(what, int) else what.port, every) as watch:
        yield watch


def accept_queue(seen: QueueHistory | QueueWatch) -> Picture:
    """Connections that wait to be accepted, over time, with the limit given to `listen`."""
    history = seen.history() if isinstance(seen, QueueWatch) else seen
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    times = [sample.at for sample in history.samples]
    waiting = [sample.waiting for sample in history.samples]
    axes.fill_between(times, waiting, step="post", color=_WAITING, alpha=0.5, hatch="///", edgecolor=INK, linewidth=0)
    axes.step(times, waiting, where="post", color=INK, linewidth=1.2)
    _limit(axes, history)
    axes.set_xlim(0, max(history.seconds, 0.01))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"seconds (n = {len(times)} looks)", fontsize=9)
    axes.set_ylabel("connections not yet accepted", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    quiet(axes)
    finding = _finding(history)
    title(axes, finding)
    return Picture(figure, f"Accept queue of port {history.port} over {history.seconds:.1f} s. {_in_words(history)}")


def _limit(axes: Axes, history: QueueHistory) -> None:
    """Draw the limit as a line; if that would press all below it flat, write its number in a corner."""
    if history.limit is None:
        return
    if history.limit <= 4 * max(history.most, 1):
        axes.axhline(history.limit, color=_FULL, linestyle="--", linewidth=1.4)
        axes.text(1, history.limit, f"limit {history.limit}", color=_FULL, fontsize=9, ha="right", va="bottom",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_ylim(top=max(history.limit, history.most) * 1.2)
    else:
        axes.set_ylim(top=max(history.most, 1) * 1.25)
        axes.text(
            1, 1, f"limit {history.limit}, far above", color=FAINT, fontsize=9, ha="right", va="top",
            transform=axes.transAxes,
        )  # fmt: skip


def _finding(history: QueueHistory) -> str:
    if history.most == 0:
        return "No connection was seen waiting to be accepted"
    share = f"in {history.share_of_time_waiting:.0%} of the looks at least one waited"
    if history.limit is not None and history.most >= history.limit:
        return f"The queue was full: {history.most} waited; {share}"
    return f"At most {history.most} connection{'s' if history.most > 1 else ''} waited to be accepted; {share}"


def _in_words(history: QueueHistory) -> str:
    limit = "an unknown limit" if history.limit is None else f"a limit of {history.limit}"
    queues = f"{history.queues} queues, together with {limit}" if history.queues > 1 else f"One queue with {limit}"
    parts = [f"{_finding(history)}. {queues}."]
    if history.overflows is not None:
        parts.append(f"{history.overflows} connections met a full queue.")
    return " ".join([*parts, *([f"{history.reason}."] if history.reason else [])])
