"""Common parts of the schematic drawings: a bare sheet with its finding, rounded boxes, arrows."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lab_support.notebook.canvas.plots import INK


def sheet(width: float, height: float, finding: str) -> Figure:
    """A figure of `width` × `height` inches, with its finding at the top left; `part` adds a place to draw."""
    figure = Figure(figsize=(width, height))
    figure.suptitle(finding, x=0.02, ha="left", fontsize=12, color=INK)
    return figure


def part(figure: Figure, left: float, width: float, x: tuple[float, float], y: tuple[float, float]) -> Axes:
    """Axes without a frame, `left` and `width` as parts of the figure's width, below its finding."""
    axes = figure.add_axes((left, 0, width, 0.89))
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_axis_off()
    return axes


def box(
    axes: Axes, x: float, y: float, width: float, height: float, colour: str, *, gone: bool = False, line: str = ":"
) -> None:
    """A rounded box of `colour`; if its object is `gone`, an empty box with a broken `line`."""
    look: dict[str, Any] = {"boxstyle": "round,pad=0.02,rounding_size=0.13"}
    if not gone:
        axes.add_patch(FancyBboxPatch((x, y), width, height, facecolor=colour, alpha=0.5, linewidth=0, **look))
    edge: dict[str, Any] = {"facecolor": "none", "edgecolor": INK, "linestyle": line if gone else "-"}
    axes.add_patch(FancyBboxPatch((x, y), width, height, linewidth=1, **edge, **look))


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, style: str = "-"
) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linestyle": style, "linewidth": 1.4}
    )
