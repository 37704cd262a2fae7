"""Starts that were lost, over launchers at once, with the line that chance alone would give. It measures nothing.

Taught in: 07_how_do_strangers_find_each_other
"""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet, title

_COLOUR = "#d55e00"


def lost_by_chance(launchers: int, ports: int, starts: int) -> float:
    """Starts lost on average, of `starts`, if each launcher of a round draws one of `ports` ports at random.

    Each port that is drawn serves one of those that drew it: the birthday problem, counted in guests.
    """
    rounds, rest = divmod(starts, launchers)
    return rounds * _lost_in_a_round(launchers, ports) + _lost_in_a_round(rest, ports)


def _lost_in_a_round(launchers: int, ports: int) -> float:
    return max(0.0, launchers - ports * (1 - (1 - 1 / ports) ** launchers))


def lost_starts(lost: Mapping[int, Sequence[int]], *, starts: int, ports: int) -> Picture:
    """A dot for each race of `starts` starts, by launchers at once, their mean, and the line for `ports` ports."""
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes = figure.subplots()
    _line(axes, max(lost), starts, ports)
    _races(axes, lost, starts, ports)
    _frame(axes, list(lost), starts)
    finding = f"Of {starts} starts, {_finding(lost)}"
    title(axes, finding)
    return Picture(figure, f"{finding}. {_in_words(lost)} {_expected(lost, starts, ports)}")


def _line(axes: Axes, most: int, starts: int, ports: int) -> None:
    launchers = range(1, most + 1)
    expected = [lost_by_chance(each, ports, starts) for each in launchers]
    label = f"expected if each draws one of {ports} ports"
    axes.plot(launchers, expected, "--", color=FAINT, linewidth=1.4, label=label)


def _races(axes: Axes, lost: Mapping[int, Sequence[int]], starts: int, ports: int) -> None:
    races = [(launchers, count) for launchers, counts in lost.items() for count in counts]
    means = {launchers: mean(counts) for launchers, counts in lost.items()}
    label = f"a race of {starts} starts (n = {max(map(len, lost.values()))} for each)"
    axes.plot(*zip(*races, strict=True), "o", color="white", markeredgecolor=INK, markersize=5, label=label)
    axes.plot(
        list(means), list(means.values()), "_", color=_COLOUR, markersize=26, markeredgewidth=3, label="their mean"
    )
    for launchers, middle in means.items():
        _write_mean(axes, launchers, middle, above=middle >= lost_by_chance(launchers, ports, starts))


def _write_mean(axes: Axes, launchers: int, middle: float, above: bool) -> None:
    """Beside its mark, on the side on which the rising line is not."""
    place, side = ((-17, 1), "right") if above else ((17, -8), "left")
    axes.annotate(
        f"{middle:.3g}", (launchers, middle), xytext=place, textcoords="offset points", fontsize=9, ha=side, color=INK
    )


def _frame(axes: Axes, launchers: Sequence[int], starts: int) -> None:
    axes.set_xticks(launchers)
    axes.set_xlim(0, max(launchers) + 2)
    axes.set_ylim(bottom=-0.6)
    axes.set_xlabel("launchers at once", fontsize=9)
    axes.set_ylabel(f"lost starts, of {starts}", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper left")
    quiet(axes)


def _finding(lost: Mapping[int, Sequence[int]]) -> str:
    means = {launchers: mean(counts) for launchers, counts in lost.items()}
    told = [f"{launchers} at once {lost:.3g}" for launchers, lost in means.items() if launchers > 1]
    alone = (
        f"one launcher alone loses {means[1]:.3g}, "
        if means.get(1)
        else "one launcher alone loses none, " * (1 in means)
    )
    return f"{alone}{', '.join(told)} on average"


def _in_words(lost: Mapping[int, Sequence[int]]) -> str:
    return " ".join(f"{launchers}: lost {', '.join(map(str, counts))}." for launchers, counts in lost.items())


def _expected(lost: Mapping[int, Sequence[int]], starts: int, ports: int) -> str:
    told = ", ".join(f"{lost_by_chance(each, ports, starts):.3g}" for each in lost)
    return f"Expected if each launcher draws one of {ports} ports at random: {told}."
