"""Draws one listening socket with its two queues: connections, and the entries of those that wait. It measures nothing.

Taught in: 04_who_gets_the_next_connection
"""

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture
from lab_support.notebook.cells.cell_words import colour_of

_SOCKET, _EMPTY, _CONNECTION = "#e69f00", "#f4f4f4", "#56b4e9"


def two_queues(processes: int = 4, connections: int = 1) -> Picture:
    """`processes` descriptor tables that lead to one socket, with its connections and its wait queue.

    Each process sleeps in an epoll set of its own, so the wait queue has one entry for each set.
    """
    finding = f"{processes} descriptors, one socket, two queues"
    figure = drawing.sheet(9.2, 3.7, finding)
    axes = drawing.part(figure, 0.01, 0.98, (0, 7.5 + 1.35 * max(4, processes)), (-0.2, 6.0))
    _descriptors(axes, processes)
    _box(axes, 4.0, 2.0, 2.4, 1.9, _SOCKET, "listening socket\none open file\ndescription")
    drawing.arrow(axes, (6.5, 3.5), (7.3, 4.55), FAINT)
    drawing.arrow(axes, (6.5, 2.4), (7.3, 1.35), FAINT)
    _accept_queue(axes, connections)
    _wait_queue(axes, processes)
    return Picture(
        figure,
        f"{finding}. Each of {processes} processes has a descriptor that leads to the one listening socket. The socket "
        f"has an accept queue with {connections} complete connection{'s' if connections != 1 else ''}, and a wait "
        f"queue with {processes} entries, one for the epoll set in which each process sleeps.",
    )


def _descriptors(axes: Axes, processes: int) -> None:
    for index in range(processes):
        y = 4.7 - index * 4.4 / max(1, processes - 1)
        _box(axes, 0.1, y, 2.1, 0.9, colour_of(index), f"P{index + 1}: descriptor 3")
        drawing.arrow(axes, (2.3, y + 0.45), (3.9, 2.95), FAINT)


def _accept_queue(axes: Axes, connections: int) -> None:
    axes.text(7.4, 5.35, "accept queue: complete connections", fontsize=10, color=INK)
    for place in range(4):
        filled = place < connections
        _box(axes, 7.4 + place * 1.35, 4.2, 1.15, 0.9, _CONNECTION if filled else _EMPTY, "client" if filled else "")


def _wait_queue(axes: Axes, processes: int) -> None:
    axes.text(7.4, 2.15, "wait queue: an entry for each that asked to be told", fontsize=10, color=INK)
    for index in range(processes):
        _box(axes, 7.4 + index * 1.35, 1.0, 1.15, 0.9, colour_of(index), f"epoll set\nof P{index + 1}")
    axes.text(7.4, 0.25, "A connection comes: who is woken?", fontsize=10, color=INK, weight="bold")


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, words: str) -> None:
    drawing.box(axes, x, y, width, height, colour)
    axes.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=9, color=INK)
