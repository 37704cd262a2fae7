"""Parents that wait for a child each: how long, until what answer, and when the child was ready or died. It measures
nothing.

Taught in: 07_how_do_strangers_find_each_other
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lab_support.notebook.canvas.plots import FAINT, INK, Look, Picture, quiet, title


@dataclass(frozen=True, slots=True)
class Wait:
    """One parent and its child. Times are seconds since the child began to load.

    said: the parent's answer, "ready", "dead" or "late". event: when the child was ready or died; None if neither had
    happened. note: stands beside the bar.
    """

    parent: str
    child: str
    said: str
    waited: float
    event: float | None
    died: bool
    note: str = ""


ANSWERS = {
    "ready": Look("#56b4e9", "", "v"),
    "dead": Look("#e69f00", "///", "X"),
    "late": Look("#d0d0d0", "...", ""),
}


def who_waits(waits: Sequence[Wait], finding: str) -> Picture:
    """A bar for each wait, grouped by parent, with a marker where something happened to the child."""
    figure = Figure(figsize=(9.5, 1.7 + 0.42 * len(waits)), layout="constrained")
    axes = figure.subplots()
    places = _places(waits)
    for place, wait in zip(places, waits, strict=True):
        _draw(axes, place, wait)
    axes.set_yticks(places, [f"{wait.child} child" for wait in waits])
    axes.set_ylim(places[-1] + 0.7, -1.1)
    for parent in dict.fromkeys(wait.parent for wait in waits):
        first = next(place for place, wait in zip(places, waits, strict=True) if wait.parent == parent)
        axes.annotate(parent, (0, first - 0.55), xytext=(6, 0), textcoords="offset points", fontsize=10,
                      fontweight="bold", color=INK)  # fmt: skip
    axes.set_xlim(0, 2.4 * max(wait.waited for wait in waits))
    axes.set_xticks([place / 2 for place in range(1 + int(2 * max(wait.waited for wait in waits)))])
    axes.set_xlabel("seconds since the child began to load", fontsize=9)
    _legend(axes)
    quiet(axes)
    title(axes, finding)
    return Picture(figure, f"Bars. {finding}. " + " ".join(map(_in_words, waits)))


def _places(waits: Sequence[Wait]) -> list[float]:
    """Rows from the top, with room for a name above each parent's first."""
    parents = list(dict.fromkeys(wait.parent for wait in waits))
    return [row + 0.9 * parents.index(wait.parent) for row, wait in enumerate(waits)]


def _draw(axes: Axes, place: float, wait: Wait) -> None:
    look = ANSWERS[wait.said]
    axes.barh(place, wait.waited, height=0.55, color=look.colour, edgecolor=INK, hatch=look.hatch, linewidth=0.8)
    if wait.event is not None:
        axes.plot(wait.event, place, ANSWERS["dead" if wait.died else "ready"].marker, color=INK, markersize=8,
                  markeredgecolor="white", clip_on=False, zorder=4)  # fmt: skip
    words = f"{wait.waited:.1f} s: “{wait.said}”" + (f"; {wait.note}" if wait.note else "")
    axes.annotate(
        words, (wait.waited, place), (9, 0), textcoords="offset points", fontsize=9, va="center", color=INK
    ).set_in_layout(False)


def _legend(axes: Axes) -> None:
    bars = [
        Patch(facecolor=look.colour, edgecolor=INK, hatch=look.hatch, label=f"waits, then says “{said}”")
        for said, look in ANSWERS.items()
    ]
    events = [
        Line2D([], [], color=INK, marker=ANSWERS[said].marker, linestyle="", label=words)
        for said, words in (("ready", "the child is ready"), ("dead", "the child dies"))
    ]
    axes.legend(handles=[*bars, *events], fontsize=8.5, frameon=False, ncols=5, loc="upper center",
                bbox_to_anchor=(0.45, -0.14), edgecolor=FAINT, columnspacing=1.2)  # fmt: skip


def _in_words(wait: Wait) -> str:
    happened = "nothing happened before"
    if wait.event is not None:
        happened = f"the child {'died' if wait.died else 'was ready'} at {wait.event:.1f} s"
    note = f"; {wait.note}" if wait.note else ""
    return f"{wait.parent}, {wait.child} child: “{wait.said}” after {wait.waited:.1f} s; {happened}{note}."
