"""Bars side by side: one quantity of several things, in several situations. It measures nothing."""

from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import HATCHES, INK, Picture, quiet, title
from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.page.gate import takes_prediction

Measured = float | Sequence[float]
"""One value, or those of several repeats: the bar shows their median, and a dot shows each."""


@takes_prediction
def bars(
    measured: Mapping[str, Mapping[str, Measured]],
    *,
    unit: str,
    finding: str,
    whole: Mapping[str, float] | None = None,
    whole_is: str = "the whole",
    level: float | None = None,
    level_is: str = "",
) -> Picture:
    """A group of bars for each of `measured`, with a bar for each situation, which looks the same in all groups.

    unit: the axis label, such as "private memory of the child, MB". finding: the title, which says what the
    figure shows. whole: for each group, the total of which its bars are parts, drawn as an outline around them that
    the legend calls `whole_is`. level: a value with which the bars compare, drawn as a dashed line that the legend
    calls `level_is`. A missing situation leaves a gap. Raises `ValueError` if there is nothing to draw.
    """
    situations = list(dict.fromkeys(name for group in measured.values() for name in group))
    if not situations:
        raise ValueError("bars: got nothing to draw, expected a figure for each thing and situation")
    figure = Figure(figsize=(max(6.0, 1.2 + 0.62 * len(measured) * (len(situations) + 0.8)), 3.4), layout="constrained")
    axes = figure.subplots()
    for place, situation in enumerate(situations):
        _draw(axes, measured, situation, place, len(situations))
    totals = [(whole or {}).get(name, 0.0) for name in measured]
    _outline(axes, totals, whole_is)
    if level is not None:
        axes.axhline(level, color=INK, linestyle="--", linewidth=1.2, label=level_is)
    axes.set_xticks(range(len(measured)), measured)
    axes.set_ylabel(unit, fontsize=9)
    highest = max(max(_values(value)) for group in measured.values() for value in group.values())
    axes.set_ylim(0, 1.18 * max(highest, level or 0.0, *totals) or 1)
    if len(situations) > 1 or whole or level_is:
        axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    quiet(axes)
    title(axes, finding)
    said = f"{finding}. In {unit}: {_in_words(measured, whole or {}, whole_is)}"
    return Picture(figure, said + (f"; {level_is} {_figure(level)}." if level is not None else "."))


@takes_prediction
def bars_apart(panels: Mapping[str, Mapping[str, Mapping[str, Measured]]], *, unit: str, finding: str) -> Picture:
    """Bars as `bars` draws them, in a panel for each of `panels`, such as measured here and recorded elsewhere.

    A situation has the same look in all panels, which have one axis. Raises `ValueError` if there is nothing to draw.
    """
    groups = [values for panel in panels.values() for values in panel.values()]
    situations = list(dict.fromkeys(name for group in groups for name in group))
    if not situations:
        raise ValueError("bars_apart: got nothing to draw, expected a figure for each thing and situation")
    widths = [len(panel) for panel in panels.values()]
    figure = Figure(figsize=(1.6 + 0.62 * sum(widths) * (len(situations) + 0.8), 3.8), layout="constrained")
    figure.suptitle(finding, x=0.02, ha="left", fontsize=12, color=INK)
    many = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (name, panel) in zip(many, panels.items(), strict=True):
        for place, situation in enumerate(situations):
            _draw(axes, panel, situation, place, len(situations))
        axes.set_xticks(range(len(panel)), panel)
        quiet(axes)
        title(axes, name)
    many[0].set_ylabel(unit, fontsize=9)
    many[0].set_ylim(0, 1.18 * max(max(_values(value)) for group in groups for value in group.values()) or 1)
    labels = {label: handle for axes in many for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = [name for name in situations if name in labels]
    figure.legend([labels[name] for name in shown], shown, loc="outside right upper", fontsize=9, frameon=False)
    words = " ".join(f"{name}: {_in_words(panel, {}, '')}." for name, panel in panels.items())
    return Picture(figure, f"{finding}. In {unit}. {words}")


def _draw(axes: Axes, measured: Mapping[str, Mapping[str, Measured]], situation: str, place: int, places: int) -> None:
    width = 0.8 / places
    label = situation
    for group, values in enumerate(measured.values()):
        if situation not in values:
            continue
        repeats = _values(values[situation])
        middle, height = group + (place - (places - 1) / 2) * width, median(repeats)
        axes.bar(middle, height, 0.9 * width, color=colour_of(place), hatch=HATCHES[place % len(HATCHES)],
                 edgecolor=INK, alpha=0.85, label=label)  # fmt: skip
        label = ""  # once in the legend
        if len(repeats) > 1:
            axes.plot([middle] * len(repeats), repeats, "o", color="white", markeredgecolor=INK, markersize=4, zorder=5)
        gap = 4 if len(repeats) > 1 else 1  # points: above the dots
        axes.annotate(_figure(height), (middle, max(repeats)), xytext=(0, gap), textcoords="offset points",
                      ha="center", va="bottom", fontsize=9, color=INK)  # fmt: skip


def _outline(axes: Axes, totals: Sequence[float], label: str) -> None:
    """An empty, dashed bar around each group, as high as its total; none where that is 0."""
    for group, total in enumerate(totals):
        if total:
            axes.bar(group, total, 0.92, facecolor="none", edgecolor=INK, linestyle="--", linewidth=1.2, label=label)
            axes.annotate(_figure(total), (group - 0.46, total), xytext=(0, 1), textcoords="offset points", ha="left",
                          va="bottom", fontsize=9, color=INK)  # fmt: skip
            label = ""  # once in the legend


def _values(value: Measured) -> list[float]:
    return [float(each) for each in value] if isinstance(value, Sequence) else [float(value)]


def _figure(value: float) -> str:
    if value >= 20 or value.is_integer():
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _in_words(measured: Mapping[str, Mapping[str, Measured]], whole: Mapping[str, float], whole_is: str) -> str:
    return "; ".join(
        f"{name}: "
        + ", ".join(f"{situation} {_figure(median(_values(value)))}" for situation, value in group.items())
        + (f", {whole_is} {_figure(whole[name])}" if name in whole else "")
        for name, group in measured.items()
    )
