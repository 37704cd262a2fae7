"""Ways to share a port, drawn by their two costs: wake-ups per connection, and unevenness. It measures nothing.

Taught in: 04_who_gets_the_next_connection
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.instruments.fairness import fair_draw, gini
from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet, title

_NONE_LOST, _SOME_LOST = ("o", "#0072b2", "none lost"), ("X", "#d55e00", "some lost")


@dataclass(frozen=True, slots=True)
class Way:
    """One way. woken: wake-ups per connection. counts: connections by process. lost: clients that a kill cut off."""

    woken: float
    counts: Sequence[int]
    lost: int

    @property
    def gini(self) -> float:
        return gini(self.counts)


def evenness(ways: Mapping[str, Way], *, finding: str, of: int = 100) -> Picture:
    """A marker for each way, by name: right is more wake-ups, up is less even; a cross if a kill lost clients.

    of: the number of clients that waited when a process was killed. The band is a fair draw: 99 of 100 stay in it.
    """
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots()
    band = _band(axes, [*ways.values()])
    for names in _together(ways):
        _mark(axes, ", ".join(names), [ways[name] for name in names], of)
    axes.set_xlabel("wake-ups per connection", fontsize=9)
    count = sum(next(iter(ways.values())).counts)
    axes.set_ylabel(f"unevenness of {count} connections (Gini coefficient)", fontsize=9)
    axes.set_xlim(0, 1.25 * max(way.woken for way in ways.values()))
    top = 1.25 * max(band, *(way.gini for way in ways.values()))
    axes.set_ylim(-0.06, top)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0])
    axes.set_ylim(-0.06, top)
    _legend(axes, of)
    quiet(axes)
    title(axes, finding)
    return Picture(figure, f"{finding}. {_in_words(ways, of)} A fair draw stays below {band:.2f}, 99 times of 100.")


def _band(axes: Axes, ways: Sequence[Way]) -> float:
    """The 99th percentile of a fair draw of as many connections among as many processes."""
    most = fair_draw(len(ways[0].counts), sum(ways[0].counts)).most
    axes.axhspan(0, most, color=FAINT, alpha=0.18, linewidth=0)
    axes.text(0.99, most, "a fair draw, 99 of 100", transform=axes.get_yaxis_transform(), ha="right", va="bottom",
              fontsize=9, color=FAINT)  # fmt: skip
    return most


def _together(ways: Mapping[str, Way]) -> list[list[str]]:
    """The names in groups: markers that would lie upon each other have one label."""
    groups: list[list[str]] = []
    for name, way in ways.items():
        near = (group for group in groups if _is_near(ways[group[0]], way))
        found = next(near, None)
        if found:
            found.append(name)
        else:
            groups.append([name])
    return groups


def _is_near(one: Way, other: Way) -> bool:
    return abs(one.woken - other.woken) < 0.5 and abs(one.gini - other.gini) < 0.03 and one.lost == other.lost


def _mark(axes: Axes, names: str, ways: Sequence[Way], of: int) -> None:
    marker, colour, _ = _SOME_LOST if ways[0].lost else _NONE_LOST
    for way in ways:
        axes.plot(way.woken, way.gini, marker, color=colour, markeredgecolor=INK, markersize=11, zorder=5)
    lost = ways[0].lost
    middle, lowest = mean(way.woken for way in ways), min(way.gini for way in ways)
    words, offset, align = (f"{names}\n{lost} of {of} lost", 10, "bottom") if lost else (names, -9, "top")
    axes.annotate(words, (middle, lowest), xytext=(0, offset), textcoords="offset points", fontsize=9, color=INK,
                  ha="center", va=align)  # fmt: skip


def _legend(axes: Axes, of: int) -> None:
    for marker, colour, words in (_NONE_LOST, _SOME_LOST):
        axes.plot([], [], marker, color=colour, markeredgecolor=INK, markersize=9, label=f"{words} in a kill")
    axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0),
                title=f"of {of} clients that waited", title_fontsize=9)  # fmt: skip


def _in_words(ways: Mapping[str, Way], of: int) -> str:
    return " ".join(
        f"{name}: {way.woken:.1f} wake-ups per connection, Gini {way.gini:.2f}, connections "
        f"{', '.join(map(str, way.counts))}, {way.lost} of {of} lost."
        for name, way in ways.items()
    )
