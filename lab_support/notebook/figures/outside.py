"""Draws a fork in three lanes: things outside memory that are left behind or shared, and memory that is doubled.

It measures nothing.

Taught in: 06_which_start_method
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture

LEFT_BEHIND, SHARED, DOUBLED = "left behind", "shared", "doubled"


@dataclass(frozen=True, slots=True)
class Lane:
    """name: one of the three ways. memory: its words in memory. thing: what they mean outside it, "" for nothing."""

    name: str
    memory: str
    thing: str
    more: str


LANES = (
    Lane(LEFT_BEHIND, "the driver is ready", "the driver's state", "threads, a GPU driver's state"),
    Lane(SHARED, "descriptor 5 is a socket", "one connection", "sockets, pipes, device files"),
    Lane(DOUBLED, "text to be written", "", "memory alone: buffers, caches"),
)
_MEMORY, _OUTSIDE = "#b8d8f0", "#f3d9a4"
_LEFTS, _WIDTH = {"parent": 0.3, "child": 5.5}, 4.6
_FINDING = "A fork copies memory: things outside it are left behind or shared, and what is memory alone is doubled"


def outside(lanes: Sequence[Lane] = LANES) -> Picture:
    """Parent and forked child, a lane for each of `lanes`: memory's words, and below them the thing that they mean."""
    figure = drawing.sheet(10.4, 3.4, _FINDING)
    for index, lane in enumerate(lanes):
        axes = drawing.part(figure, 0.01 + 0.33 * index, 0.32, (0, 10.4), (0, 6.8))
        _lane(axes, lane)
    return Picture(figure, f"{_FINDING}. " + " ".join(map(_in_words, lanes)))


def _lane(axes: Axes, lane: Lane) -> None:
    axes.text(0.3, 6.2, lane.name, fontsize=11, weight="bold", color=INK)
    for who, left in _LEFTS.items():
        axes.text(left, 5.35, who, fontsize=9.5, color=INK)
        drawing.box(axes, left, 3.5, _WIDTH, 1.6, _MEMORY)
        axes.text(left + 0.2, 4.35, fill(f"“{lane.memory}”", 20), fontsize=8.2, color=INK)
        axes.text(left + _WIDTH - 0.15, 3.62, "memory", fontsize=7.5, ha="right", color=FAINT)
    if lane.name == LEFT_BEHIND:
        _thing(axes, _LEFTS["parent"], _WIDTH, lane.thing)
        _thing(axes, _LEFTS["child"], _WIDTH, "nothing", gone=True)
        _arrows(axes, {"parent": 2.6})
    elif lane.name == SHARED:
        _thing(axes, 2.6, 5.2, lane.thing)
        _arrows(axes, {"parent": 3.6, "child": 6.8})
    else:
        axes.text(0.3, 1.7, "nothing outside: each has its own,\nand both are the same", fontsize=9, color=INK)
    axes.text(0.3, 0.15, lane.more, fontsize=8.5, color=INK, style="italic")


def _thing(axes: Axes, left: float, width: float, words: str, *, gone: bool = False) -> None:
    drawing.box(axes, left, 1.1, width, 1.2, _OUTSIDE, gone=gone, line="--")
    axes.text(left + 0.2, 1.7, words, fontsize=9, color=FAINT if gone else INK)
    axes.text(left + width - 0.15, 1.2, "outside", fontsize=7.5, ha="right", color=FAINT)


def _arrows(axes: Axes, ends: dict[str, float]) -> None:
    for who, end in ends.items():
        drawing.arrow(axes, (_LEFTS[who] + _WIDTH / 2, 3.5), (end, 2.35))


def _in_words(lane: Lane) -> str:
    outside_child = {LEFT_BEHIND: "nothing for the child", SHARED: "the same for the child"}
    end = outside_child.get(lane.name, "the child has a copy of its own")
    begin = f"in the parent memory says “{lane.memory}”" + (f", outside there is {lane.thing}" if lane.thing else "")
    return f"{lane.name.capitalize()}: {begin}; {end}. Such are {lane.more}."
