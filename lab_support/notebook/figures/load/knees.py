"""Tokens per second over API servers at several paces, with predictions and the knee of each. It measures nothing.

Taught in: 08_does_another_api_server_help
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet, title

_LOOKS = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"))
_FAR_FROM_THE_AXIS = 0.8  # API servers: left of a knee, its label has room
_CLOSE, _SAME = 0.25, 0.05  # API servers
_LINE_OF_TEXT = 0.055  # of the figure's height


@dataclass(frozen=True, slots=True)
class PaceLine:
    """One pace. measured, predicted: tokens per second by API servers.

    curve: points of the prediction between, from the fewest API servers to the most, with fractions. knee: the point
    from which on another API server is of no use. limit: words for what is the limit there.
    """

    name: str
    measured: Mapping[int, float]
    predicted: Mapping[int, float]
    curve: Sequence[tuple[float, float]]
    knee: tuple[float, float]
    limit: str


def knees(lines: Sequence[PaceLine], *, cores: float, finding: str, stand_in: str) -> Picture:
    """A curve of predictions and its knee at every pace, with a mark for each measurement, and an empty one for what
    was predicted there.

    stand_in: words for the thing whose pace it is, for the axis. Raises `ValueError` if there is no line.
    """
    if not lines:
        raise ValueError("knees: got no pace, expected at least one")
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for line, (colour, marker) in zip(lines, cycle(_LOOKS)):
        _draw(axes, line, colour, marker)
    _frame(axes, lines, cores, stand_in)
    _name_knees(axes, lines)
    _name(axes, lines)
    title(axes, finding)
    return Picture(figure, f"{finding}. By a {stand_in}. {' '.join(map(_in_words, lines))}")


def _draw(axes: Axes, line: PaceLine, colour: str, marker: str) -> None:
    rising, flat = ([point for point in line.curve if (point[0] <= line.knee[0]) is below] for below in (True, False))
    axes.plot(*zip(*[*rising, line.knee], strict=True), "--", color=FAINT, linewidth=1.4, zorder=1)
    axes.plot(*zip(*[line.knee, *flat], strict=True), "--", color=colour, linewidth=1.5, zorder=2)
    for points, filled in ((line.predicted, "white"), (line.measured, colour)):
        axes.plot(*zip(*sorted(points.items()), strict=True), marker, color=filled, markeredgecolor=colour,
                  markersize=8, markeredgewidth=1.5, zorder=4)  # fmt: skip
    axes.plot(*line.knee, "|", color=INK, markersize=16, markeredgewidth=2, zorder=3)


def _name_knees(axes: Axes, lines: Sequence[PaceLine]) -> None:
    """Left above each, or right below one that is close to a higher one. Two at one place have one label."""
    labelled: list[float] = []
    for place, height in sorted((line.knee for line in lines), key=lambda knee: -knee[1]):
        if any(abs(place - other) < _SAME for other in labelled):
            continue
        close = any(abs(place - other) < _CLOSE for other in labelled)
        offset, side = ((7, -13), "left") if close else ((-5, 9), "right")
        if place < _FAR_FROM_THE_AXIS:
            offset, side = (5, 6), "left"
        axes.annotate(f"knee {place:.1f}", (place, height), xytext=offset, textcoords="offset points", fontsize=9,
                      ha=side, color=INK)  # fmt: skip
        labelled.append(place)


def _name(axes: Axes, lines: Sequence[PaceLine]) -> None:
    """Each line at its right end, as high as it ends, or higher if the one below needs the room."""
    most, highest = axes.get_xlim()[1], axes.get_ylim()[1]
    lowest = 0.0
    for line, (colour, _) in sorted(zip(lines, cycle(_LOOKS)), key=lambda each: each[0].curve[-1][1]):
        height = max(line.curve[-1][1], lowest)
        axes.text(most, height, f" {line.name}, {line.limit}", fontsize=9, va="center", color=colour)
        lowest = height + _LINE_OF_TEXT * highest


def _frame(axes: Axes, lines: Sequence[PaceLine], cores: float, stand_in: str) -> None:
    most = max(place for line in lines for place, _ in line.curve)
    highest = max(rate for line in lines for rate in (*line.measured.values(), *(rate for _, rate in line.curve)))
    for filled, words in ((INK, "measured"), ("white", "predicted there")):
        axes.plot([], [], "o", color=filled, markeredgecolor=INK, markersize=7, label=words)
    axes.plot([], [], "--", color=FAINT, label="predicted")
    axes.set_xlim(0, most + 0.1)
    axes.set_ylim(0, highest * 1.22)
    axes.set_xticks(range(0, int(most) + 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    axes.set_xlabel(f"API servers ({cores:g} cores)", fontsize=9)
    axes.set_ylabel(f"tokens/s, {stand_in}", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper left", ncols=3, bbox_to_anchor=(0.0, 1.01))
    quiet(axes)


def _in_words(line: PaceLine) -> str:
    points = ", ".join(
        f"{number} API server{'s' * (number > 1)} {rate:,.0f} (predicted {line.predicted[number]:,.0f})"
        for number, rate in line.measured.items()
    )
    return f"{line.name}: {points}; knee at {line.knee[0]:.1f}, {line.limit}."
