"""Bursts as panels: how the connections of each round were shared, the busiest worker first. It measures nothing.

Taught in: 04_who_gets_the_next_connection
"""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import FAINT, HATCHES, INK, Picture, quiet
from lab_support.notebook.cells.cell_words import colour_of

Rounds = Sequence[Mapping[str, int]]
"""For each round, the connections that each worker served."""
_RANKS = ("busiest worker", "second", "third", "fourth")


def burst_panels(found: Mapping[str, Mapping[str, Rounds]], *, finding: str) -> Picture:
    """A row of panels for each of `found`, with a panel for each situation; in each a bar for every round.

    The workers of a round are sorted, the busiest first. A dotted line marks the share of the busiest if all are even.
    """
    situations = list(dict.fromkeys(name for row in found.values() for name in row))
    shape = (len(found), len(situations))
    figure = Figure(figsize=(9.4, 0.9 + 1.75 * len(found)), layout="constrained")
    figure.suptitle(finding, x=0.02, ha="left", fontsize=11, color=INK)
    axes = figure.subplots(*shape, sharex=True, squeeze=False)
    for row, (name, by_situation) in enumerate(found.items()):
        for column, situation in enumerate(situations):
            _panel(axes[row][column], by_situation[situation], f"{name}, {situation}")
    for each in axes[-1]:
        each.set_xlabel("connections of one burst", fontsize=9)
    _legend(figure)
    return Picture(figure, f"{finding}. {_in_words(found)}")


def _panel(axes: Axes, rounds: Rounds, words: str) -> None:
    ordered = [sorted(each.values(), reverse=True) for each in rounds]
    for rank in range(max(map(len, ordered))):
        mine = [counts[rank] if rank < len(counts) else 0 for counts in ordered]
        before = [sum(counts[:rank]) for counts in ordered]
        axes.barh(range(len(mine)), mine, left=before, color=colour_of(rank), hatch=HATCHES[rank % len(HATCHES)],
                  edgecolor=INK, height=0.8, alpha=0.85, linewidth=0.6, label=_RANKS[rank])  # fmt: skip
    axes.axvline(sum(ordered[0]) / len(_RANKS), color=FAINT, linestyle=":", linewidth=1.6, label="an even share")
    axes.set_yticks(range(len(rounds)), [""] * len(rounds))
    axes.set_ylabel(f"{len(rounds)} rounds", fontsize=9)
    axes.set_title(f"{words}: the busiest has {busiest(rounds):.0f} on average", loc="left", fontsize=10, color=INK)
    quiet(axes)


def _legend(figure: Figure) -> None:
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), fontsize=9, frameon=False, loc="outside right upper")


def busiest(rounds: Rounds) -> float:
    """The connections of each round's busiest worker, mean over the rounds."""
    return mean(max(each.values(), default=0) for each in rounds)


def _in_words(found: Mapping[str, Mapping[str, Rounds]]) -> str:
    return " ".join(
        f"{name}, {situation}: the busiest worker of each of {len(rounds)} rounds had "
        f"{', '.join(str(max(each.values(), default=0)) for each in rounds)}."
        for name, by_situation in found.items()
        for situation, rounds in by_situation.items()
    )
