"""Draws the three roads by which a tensor's memory gets into another process: a descriptor of a file in memory, a
handle of bytes, a descriptor of GPU memory. It measures nothing.

Taught in: 05a_how_does_gpu_memory_travel
"""

from collections.abc import Mapping

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture

ROADS = ("a shared CPU tensor", "CUDA IPC", "GPU memory as a descriptor")
"""The names of the three, in their order."""
_QUESTION = "Three roads for a tensor into another process: the memory stays where it is"
_PROCESS, _HOST, _GPU, _ROAD = "#56b4e9", "#e69f00", "#009e73", "#d55e00"
_DRAWN = {
    # the thing that travels, the memory that both processes then map, its colour
    ROADS[0]: ("a descriptor", "a file\nin memory", _HOST),
    ROADS[1]: ("a handle: bytes", "GPU memory\nof the sender", _GPU),
    ROADS[2]: ("a descriptor", "GPU memory,\nmade to be exported", _GPU),
}


def memory_roads(seen: Mapping[str, str] | None = None, source: str = "") -> Picture:
    """The three roads, from `ROADS`, with the thing that travels and the observations of each.

    seen: by road, a few words on the counts, or "". None draws the question, without the things that travel.
    source: where that was observed, for the title. Raises `ValueError` for an unknown road.
    """
    words = seen or {}
    asked = seen is None
    if unknown := set(words) - set(ROADS):
        raise ValueError(f"memory_roads: got {', '.join(sorted(unknown))}, expected some of {', '.join(ROADS)}")
    finding = f"{_QUESTION}{source and f' ({source})'}"
    figure = drawing.sheet(10.4, 3.5, finding)
    for index, road in enumerate(ROADS):
        axes = drawing.part(figure, 0.005 + 0.333 * index, 0.325, (0, 10), (-1.0, 8.0))
        _draw(axes, "ABC"[index], road, words.get(road, ""), asked=asked)
    told = (_asked_in_words(road) if asked else _in_words(road, words.get(road, "")) for road in ROADS)
    return Picture(figure, f"{finding}. {' '.join(told)}")


def _draw(axes: Axes, letter: str, road: str, seen: str, *, asked: bool) -> None:
    travels, memory, colour = _DRAWN[road]
    axes.text(0.2, 7.4, f"{letter}  {road}", fontsize=10.5, weight="bold", color=INK)
    _box(axes, 0.2, 4.9, 2.7, 1.5, _PROCESS, "sender")
    _box(axes, 7.1, 4.9, 2.7, 1.5, _PROCESS, "receiver")
    _box(axes, 2.6, 1.4, 4.8, 1.7, colour, memory)
    drawing.arrow(axes, (3.0, 5.7), (7.0, 5.7), _ROAD, "--")
    axes.text(5, 6.0, "?" if asked else travels, ha="center", fontsize=9, color=INK)
    for start, end in ((1.6, 3.4), (8.4, 6.6)):
        drawing.arrow(axes, (start, 4.85), (end, 3.2))
    axes.text(5, 4.1, "both map it", ha="center", fontsize=9, color=INK)
    if words := "what travels?" if asked else seen:
        look = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": FAINT}
        axes.text(5, 0.1, words, ha="center", va="center", fontsize=8.5, color=INK, bbox=look)


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, words: str) -> None:
    drawing.box(axes, x, y, width, height, colour)
    axes.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=9, color=INK)


def _in_words(road: str, seen: str) -> str:
    travels, memory, _ = _DRAWN[road]
    flat = memory.replace("\n", " ")
    line = seen.replace("\n", "; ")
    return f"{road}: {travels} travels, and both processes map one thing: {flat}.{f' Seen: {line}.' if line else ''}"


def _asked_in_words(road: str) -> str:
    flat = _DRAWN[road][1].replace("\n", " ")
    return f"{road}: something travels, and both processes map one thing: {flat}."
