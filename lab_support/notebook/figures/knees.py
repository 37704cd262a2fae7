"""Tokens per second over API servers at several paces, with predictions and the knee of each. It measures nothing.

Taught in: 08_does_another_api_server_help
"""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import INK, Picture, quiet, title

_LOOKS = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"))


@dataclass(frozen=True, slots=True)
class PaceLine:
    """One pace. measured, predicted: tokens per second by API servers. knee: where the prediction bends."""

    name: str
    measured: Mapping[int, float]
    predicted: Mapping[int, float]
    knee: float


def knees(lines: list[PaceLine], *, cores: float, finding: str, stand_in: str) -> Picture:
    """A curve of predictions and a mark for each measurement at every pace; a vertical line stands at each knee.

    stand_in: words for the thing whose pace it is, for the axis. Raises `ValueError` if there is no line.
    """
    if not lines:
        raise ValueError("knees: got no pace, expected at least one")
    figure = Figure(figsize=(7.8, 4.2), layout="constrained")
    axes = figure.subplots()
    for line, (colour, marker) in zip(lines, _LOOKS, strict=False):
        _draw(axes, line, colour, marker)
    numbers = sorted({number for line in lines for number in line.predicted})
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, map(str, numbers))
    axes.minorticks_off()
    axes.set_xlim(numbers[0] * 0.85, numbers[-1] * 1.25)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"API servers ({cores:g} cores)", fontsize=9)
    axes.set_ylabel(f"tokens/s, {stand_in}", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    quiet(axes)
    title(axes, finding)
    return Picture(figure, f"{finding}. By a {stand_in}. {' '.join(map(_in_words, lines))}")


def _draw(axes: Axes, line: PaceLine, colour: str, marker: str) -> None:
    axes.plot(*zip(*sorted(line.predicted.items()), strict=True), "--", color=colour, linewidth=1.4,
              label=f"{line.name}: predicted")  # fmt: skip
    axes.plot(*zip(*sorted(line.measured.items()), strict=True), marker, color=colour, markeredgecolor=INK,
              markersize=8, label=f"{line.name}: measured")  # fmt: skip
    if line.knee >= min(line.predicted):
        axes.axvline(line.knee, color=colour, linewidth=1, linestyle=":")


def _in_words(line: PaceLine) -> str:
    points = ", ".join(
        f"{number} API server{'s' * (number > 1)} {rate:,.0f} (predicted {line.predicted[number]:,.0f})"
        for number, rate in line.measured.items()
    )
    return f"{line.name}: {points}; knee at {line.knee:.1f}."
