"""Draws descriptor tables, the open file descriptions that they lead to, and the file. It measures nothing.

Taught in: 01_what_does_fork_copy
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import INK, Picture
from lab_support.notebook.cells.cell_words import colour_of

_TABLE, _DESCRIPTION, _FILE = "#56b4e9", "#e69f00", "#b8b8b8"
_WIDE, _HIGH, _APART = 2.6, 1.15, 1.9
_CELL = 0.36


@dataclass(frozen=True, slots=True)
class Opened:
    """One open file description. holders: the processes whose tables lead to it. places: its offsets, in order."""

    holders: tuple[str, ...]
    places: tuple[int, ...]


def open_files(opened: Sequence[Opened], *, finding: str, content: str, number: str = "") -> Picture:
    """A table for each holder, the descriptions with their places, and the file of `content` with a mark at each place.

    finding: the title, which says what the figure shows. number: of the descriptor, if it is known.
    """
    tables = [(holder, index) for index, each in enumerate(opened) for holder in each.holders]
    height = 1.0 + _APART * max(len(tables), len(opened))
    figure = drawing.sheet(9.4, 0.5 + 0.52 * height, finding)
    axes = drawing.part(figure, 0.01, 0.98, (0, 13.2), (0, height))
    rows = _middles(len(opened), height)
    for (holder, index), y in zip(tables, _middles(len(tables), height), strict=True):
        _box(axes, 0.2, y, f"table of the {holder}", number or "file", _TABLE)
        drawing.arrow(axes, (0.2 + _WIDE, y), (4.4, rows[index] + 0.25 * (y > rows[index]) - 0.25 * (y < rows[index])))
    for each, y in zip(opened, rows, strict=True):
        _box(axes, 4.4, y, "open file description", f"place {_way(each.places)}", _DESCRIPTION)
        drawing.arrow(axes, (4.4 + _WIDE, y), (8.7, height / 2 + 0.2 * (y > height / 2) - 0.2 * (y < height / 2)))
    _file(axes, 8.8, height / 2, content, [each.places[-1] for each in opened])
    return Picture(figure, f"{finding}. {_in_words(opened, content)}")


def _middles(count: int, height: float) -> list[float]:
    """`count` places from top to bottom, in equal distances around the middle."""
    return [height / 2 + _APART * ((count - 1) / 2 - index) for index in range(count)]


def _way(places: tuple[int, ...]) -> str:
    return " → ".join(map(str, places))


def _box(axes: Axes, x: float, y: float, head: str, content: str, colour: str) -> None:
    drawing.box(axes, x, y - _HIGH / 2, _WIDE, _HIGH, colour)
    axes.text(x + _WIDE / 2, y + 0.26, head, ha="center", va="center", fontsize=9, color=INK)
    axes.text(x + _WIDE / 2, y - 0.24, content, ha="center", va="center", fontsize=11, weight="bold", color=INK)


def _file(axes: Axes, x: float, y: float, content: str, places: Sequence[int]) -> None:
    """The bytes of the file in cells; below them a mark at the byte that each description would read next."""
    axes.text(x, y + 0.62, "the file", fontsize=9, color=INK)
    for index, letter in enumerate(content):
        drawing.box(axes, x + index * _CELL, y - 0.25, _CELL - 0.08, 0.6, _FILE)
        axes.text(x + (index + 0.4) * _CELL, y + 0.05, letter, ha="center", va="center", fontsize=10, color=INK)
    for index, place in enumerate(places):
        at, colour = x + place * _CELL - 0.04, colour_of(index)
        axes.plot(at, y - 0.55, "^", color=colour, markersize=9)
        axes.text(at, y - 0.8, f"{place}", ha="center", va="top", fontsize=9, color=INK)
    words = "the next read begins here" if len(places) == 1 else "the next reads begin here"
    axes.text(x, y - 1.5, words, fontsize=8.5, color=INK)


def _in_words(opened: Sequence[Opened], content: str) -> str:
    parts = [
        f"The table of the {' and the table of the '.join(each.holders)} "
        f"lead{'s' if len(each.holders) == 1 else ''} to an open file description whose place goes {_way(each.places)}."
        for each in opened
    ]
    return " ".join([*parts, f"The file holds {content}."])
