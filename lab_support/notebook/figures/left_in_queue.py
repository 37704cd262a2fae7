"""The accept queue while a worker serves it: how many still wait when each client is answered. It measures nothing.

Taught in: 04_who_gets_the_next_connection
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import INK, Picture, quiet, title
from lab_support.notebook.cells.cell_words import colour_of

_MARKERS = "os^D"


def left_in_queue(waiting: Mapping[str, Sequence[int]], *, finding: str) -> Picture:
    """A line for each of `waiting`: the connections in the queue when the first client is answered, the second, …"""
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, counts) in enumerate(waiting.items()):
        axes.plot(range(1, len(counts) + 1), counts, color=colour_of(index), marker=_MARKERS[index % len(_MARKERS)],
                  markersize=4, linewidth=1.4, label=f"{name} (n = {len(counts)})")  # fmt: skip
        axes.annotate(f"{counts[0]} left", (1, counts[0]), xytext=(8, 4), textcoords="offset points", fontsize=9,
                      color=INK)  # fmt: skip
    axes.set_xlabel("clients answered", fontsize=9)
    axes.set_ylabel("still in the accept queue", fontsize=9)
    axes.set_xlim(left=0)
    axes.set_ylim(-2, 1.15 * max(max(counts) for counts in waiting.values()) + 2)
    axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    quiet(axes)
    title(axes, finding)
    firsts = "; ".join(f"{name}: {counts[0]} when the first was answered" for name, counts in waiting.items())
    return Picture(figure, f"{finding}. Connections still in the accept queue: {firsts}.")
