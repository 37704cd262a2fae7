"""One bar for each situation, made of parts that follow one another. It measures nothing.

Taught in: 08a_which_numbers_are_true
"""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import HATCHES, INK, Picture, quiet, title
from lab_support.notebook.cells.cell_words import colour_of

_WIDE_ENOUGH = 0.07  # of the longest bar, for a figure inside of a part


def stacked(measured: Mapping[str, Mapping[str, float]], *, unit: str, finding: str) -> Picture:
    """A horizontal bar for each of `measured`, with its parts in order and their sum behind it.

    unit: the axis label. finding: the title. Raises `ValueError` if there is nothing to draw.
    """
    parts = list(dict.fromkeys(name for bar in measured.values() for name in bar))
    if not parts:
        raise ValueError("stacked: got nothing to draw, expected a figure for each part")
    figure = Figure(figsize=(8.6, 1.5 + 0.75 * len(measured)), layout="constrained")
    axes = figure.subplots()
    longest = max(sum(bar.values()) for bar in measured.values())
    for row, bar in enumerate(measured.values()):
        _bar(axes, row, bar, parts, longest)
    axes.set_yticks(range(len(measured)), measured)
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * longest)
    axes.set_xlabel(unit, fontsize=9)
    # Not the figure's own legend: that one would follow the figure's lower edge, into a note that is added there.
    axes.legend(
        fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=len(parts)
    )
    quiet(axes)
    title(axes, finding)
    return Picture(figure, f"{finding}. In {unit}: {'; '.join(_in_words(*each) for each in measured.items())}.")


def _bar(axes: Axes, row: int, bar: Mapping[str, float], parts: list[str], longest: float) -> None:
    left = 0.0
    for place, name in enumerate(parts):
        width = bar.get(name, 0.0)
        axes.barh(row, width, 0.55, left=left, color=colour_of(place), hatch=HATCHES[place % len(HATCHES)],
                  edgecolor=INK, alpha=0.85, label="" if row else name)  # fmt: skip
        if width > _WIDE_ENOUGH * longest:
            axes.text(left + width / 2, row, _figure(width), ha="center", va="center", fontsize=9, color=INK,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
        left += width
    axes.text(left, row, f"  {_figure(left)}", va="center", fontsize=10, color=INK, weight="bold")


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _in_words(name: str, bar: Mapping[str, float]) -> str:
    parts = ", ".join(f"{part} {_figure(width)}" for part, width in bar.items())
    return f"{name}: {parts}, {_figure(sum(bar.values()))} together"
