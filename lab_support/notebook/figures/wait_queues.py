"""Draws the wait queue of one socket in four states: each way to wait, who is woken, and the queue afterwards.

It measures nothing. Taught in: 04_who_gets_the_next_connection
"""

from dataclasses import dataclass

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture
from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.page.gate import Gated, after_prediction

_WOKEN = "#d55e00"
_TITLE = "The ways to wait of 04.1 to 04.4: who is woken, and the queue afterwards"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to wait. woken: how many of four entries. moves: whether the woken entry goes to the back."""

    words: str
    entry: str
    exclusive: bool
    woken: int
    moves: bool


WAYS = (
    Way("asleep in accept()", "P{}", True, 1, True),
    Way("epoll", "set of P{}", False, 4, False),
    Way("epoll with EPOLLEXCLUSIVE", "set of P{}", True, 1, False),
    Way("EPOLLEXCLUSIVE, taken out and put in again", "set of P{}", True, 1, True),
)


def wait_queues(*, prediction: str = "") -> Picture | Gated:
    """The four states, one below the other: the queue when a connection comes, and afterwards.

    prediction: the number of the one that the drawing would answer, and for which it waits.
    """
    return after_prediction(prediction, lambda: _drawn(WAYS)) if prediction else _drawn(WAYS)


def _drawn(ways: tuple[Way, ...]) -> Picture:
    figure = drawing.sheet(9.6, 1.0 + 0.92 * len(ways), _TITLE)
    axes = drawing.part(figure, 0.01, 0.98, (0, 15.4), (-0.2, 1.6 * len(ways) + 0.5))
    for column, words in ((3.9, "a connection comes"), (10.0, "afterwards")):
        axes.text(column, 1.6 * len(ways) + 0.1, words, fontsize=10, color=FAINT)
    for row, way in enumerate(ways):
        _draw(axes, 1.6 * (len(ways) - 1 - row), way)
    return Picture(figure, f"{_TITLE}. {' '.join(map(_in_words, ways))}")


def _draw(axes: Axes, y: float, way: Way) -> None:
    axes.text(0, y + 0.55, way.words.replace(", ", ",\n"), fontsize=10, color=INK, va="center")
    for place in range(4):
        _entry(axes, 3.9 + 1.35 * place, y, way, place + 1, woken=place < way.woken)
    drawing.arrow(axes, (9.4, y + 0.5), (9.9, y + 0.5), FAINT)
    for place, number in enumerate((2, 3, 4, 1) if way.moves else (1, 2, 3, 4)):
        _entry(axes, 10.0 + 1.35 * place, y, way, number, woken=False)


def _entry(axes: Axes, x: float, y: float, way: Way, number: int, *, woken: bool) -> None:
    drawing.box(axes, x, y, 1.15, 1.0, colour_of(number - 1))
    mark = "\nexclusive" if way.exclusive else ""
    axes.text(x + 0.58, y + 0.5, way.entry.format(number) + mark, ha="center", va="center", fontsize=8, color=INK)
    if woken:
        axes.text(x + 0.58, y + 1.13, "woken", ha="center", fontsize=8, color=_WOKEN, weight="bold")


def _in_words(way: Way) -> str:
    mark = "exclusive entries" if way.exclusive else "entries without a mark"
    woken = "all four are woken" if way.woken == 4 else "the first is woken"
    after = "and goes to the back" if way.moves else "and the order stays"
    return f"{way.words}: {mark}, {woken}, {after}."
