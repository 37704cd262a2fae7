"""Draws a fork's copy: memory that describes things outside it, and these things left behind. It measures nothing.

Taught in: 06_which_start_method
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from lab_support.notebook.figures import drawing
from lab_support.notebook.figures.plots import FAINT, INK, Picture

THINGS = (
    ("a pool has 4 threads", "4 threads"),
    ("the GPU's driver is ready", "a context on the GPU"),
    ("this is the notebook's kernel", "ZeroMQ's two threads"),
)
_MEMORY, _OUTSIDE = "#b8d8f0", "#f3d9a4"


def outside(things: Sequence[tuple[str, str]] = THINGS) -> Picture:
    """Parent and forked child: for each of `things`, memory's words and the thing outside that they describe."""
    finding = "A fork copies the words in memory, and not the things outside it"
    figure = drawing.sheet(9.2, 3.3, finding)
    axes = drawing.part(figure, 0.01, 0.98, (0, 19.8), (0, 6.6))
    _process(axes, 0.2, "parent", things, there=True)
    _process(axes, 10.4, "forked child", things, there=False)
    drawing.arrow(axes, (9.4, 4.35), (10.2, 4.35))
    axes.text(9.8, 4.7, "copied", ha="center", fontsize=9, color=INK)
    said = "; ".join(f"memory says “{memory}”, outside there is {thing}" for memory, thing in things)
    words = f"In the parent: {said}. In the child, memory says the same, and outside it there is nothing of its own."
    return Picture(figure, f"{finding}. {words}")


def _process(axes: Axes, left: float, name: str, things: Sequence[tuple[str, str]], *, there: bool) -> None:
    axes.text(left, 6.1, name, fontsize=11, weight="bold", color=INK)
    for bottom, height, colour, label in ((2.9, 2.9, _MEMORY, "memory"), (0.2, 2.3, _OUTSIDE, "outside memory")):
        drawing.box(axes, left, bottom, 9.0, height, colour, gone=not there and colour == _OUTSIDE, line="--")
        axes.text(left + 8.85, bottom + 0.12, label, fontsize=8.5, ha="right", color="#555555")
    for row, (memory, thing) in enumerate(things):
        axes.text(left + 0.3, 5.1 - 0.8 * row, f"“{memory}”", fontsize=10, color=INK)
        axes.text(left + 0.3, 1.95 - 0.65 * row, thing if there else f"not there: {thing}", fontsize=10,
                  color=INK if there else FAINT)  # fmt: skip
