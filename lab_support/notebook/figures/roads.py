"""Draws the two roads by which a descriptor gets into another process: left open across exec, or sent. It measures
nothing.

Taught in: 03_how_does_a_descriptor_travel
"""

from collections.abc import Mapping

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture
from lab_support.plural import counted

_QUESTION = "Two roads into another process's descriptor table"
_PARENT, _CHILD, _KERNEL, _ROAD = "#b8b8b8", "#56b4e9", "#e69f00", "#d55e00"
_OPEN, _SENT = "left open", "sent in a message"


def roads(messages: Mapping[str, int] | None = None) -> Picture:
    """The two roads, and the one that each way of handing over took.

    messages: the count of messages with the socket, by way, such as "spawn". None draws the question.
    """
    taken = messages or {}
    by_road = {
        _OPEN: [way for way, count in taken.items() if not count],
        _SENT: [f"{way}: {counted(count, 'message')}" for way, count in taken.items() if count],
    }
    finding = _finding(by_road) if taken else _QUESTION
    figure = drawing.sheet(9.2, 3.2, finding)
    for index, road in enumerate((_OPEN, _SENT)):
        axes = drawing.part(figure, 0.01 + 0.5 * index, 0.48, (0, 10), (0, 6.5))
        _road(axes, sent=road == _SENT)
        _taken_by(axes, by_road[road], asked=not taken)
    return Picture(figure, f"{finding}. {_in_words(taken)}")


def _finding(by_road: Mapping[str, list[str]]) -> str:
    names = {road: ", ".join(way.partition(":")[0] for way in ways) or "nothing" for road, ways in by_road.items()}
    return f"Left open: {names[_OPEN]}. Sent in a message: {names[_SENT]}"


def _in_words(taken: Mapping[str, int]) -> str:
    counts = " ".join(f"{way}: {counted(count, 'message')} with the socket." for way, count in taken.items())
    return (
        "First road: the descriptor stays open in the child under the same number, and nothing is sent. Second road: "
        "a message over a Unix socket carries it, and the kernel makes a new entry in the receiver's table. "
        f"Both lead to the same open file description. {counts}".strip()
    )


def _road(axes: Axes, *, sent: bool) -> None:
    axes.text(0.2, 6.0, "B  sent in a message" if sent else "A  left open", fontsize=11, weight="bold", color=INK)
    _box(axes, 0.3, 4.0, 3.0, "parent's table", "5", _PARENT)
    _box(axes, 6.7, 4.0, 3.0, "child's table", "?" if sent else "5", _CHILD)
    _box(axes, 3.3, 1.2, 3.4, "open file description", "listening socket", _KERNEL)
    for start in (1.8, 8.2):
        drawing.arrow(axes, (start, 4.0), (5 + 0.12 * (start - 5), 2.75))
    drawing.arrow(axes, (3.4, 4.8), (6.6, 4.8), _ROAD, "--" if sent else ":")
    words = ("the table is copied", "exec leaves it open")
    if sent:
        words = ("sendmsg → recvmsg", "as a new entry")
    axes.text(5, 5.15, words[0], ha="center", fontsize=9, color=INK)
    axes.text(5, 4.3, words[1], ha="center", fontsize=9, color=INK)


def _box(axes: Axes, x: float, y: float, width: float, head: str, content: str, colour: str) -> None:
    drawing.box(axes, x, y, width, 1.5, colour)
    axes.text(x + width / 2, y + 1.08, head, ha="center", va="center", fontsize=9, color=INK)
    axes.text(x + width / 2, y + 0.45, content, ha="center", va="center", fontsize=10, weight="bold", color=INK)


def _taken_by(axes: Axes, ways: list[str], *, asked: bool) -> None:
    words = "which start method?" if asked else "taken by  " + (", ".join(ways) or "none")
    look = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": FAINT}
    axes.text(5, 0.35, words, ha="center", va="center", fontsize=10, color=INK, bbox=look)
