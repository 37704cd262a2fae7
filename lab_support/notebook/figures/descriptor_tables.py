"""Draws the descriptor tables of two processes before and after a step, from two X-rays. It measures nothing.

Taught in: 03_how_does_a_descriptor_travel
"""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lab_support.instruments.xray.graph import STANDARD_STREAMS, Graph, Hold, KernelObject, ProcessNode
from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture
from lab_support.notebook.cells.cell_words import colour_of

_OBJECT, _NEW, _OTHER = "#e69f00", "#d55e00", "#f4f4f4"
_ROW, _TOP = 0.95, 4.3
_Table = dict[int, Hold]


def descriptor_tables(before: Graph, after: Graph, finding: str) -> Picture:
    """Two tables and the listening sockets between them, left before and right after; a new entry is marked.

    before, after: two X-rays of the same two processes. finding: the title. Raises `ValueError` for another number of
    processes.
    """
    if len(before.processes) != 2 or len(after.processes) != 2:
        raise ValueError(f"descriptor_tables: got {len(after.processes)} processes, expected 2")
    figure = drawing.sheet(10.4, 3.0, finding)
    numbers = _numbers(before, after)
    for index, (moment, graph) in enumerate((("before", before), ("after", after))):
        axes = drawing.part(figure, 0.01 + 0.5 * index, 0.48, (0, 10), (1.6, 6.3))
        axes.text(5, 6.0, moment, ha="center", fontsize=11, weight="bold", color=INK)
        _moment(axes, graph, numbers, before)
    figure.add_artist(Line2D((0.5, 0.5), (0.03, 0.86), color=FAINT))
    words = " ".join(f"{when}: {_in_words(graph, numbers)}" for when, graph in (("Before", before), ("After", after)))
    return Picture(figure, f"{finding}. {words}")


def _numbers(*graphs: Graph) -> range:
    """The numbers from the lowest to the highest that either table has at either moment, standard streams left out."""
    used = {hold.number for graph in graphs for hold in graph.holds if hold.number is not None} - STANDARD_STREAMS
    return range(3, max(used, default=3) + 1)


def _table(graph: Graph, process: ProcessNode) -> _Table:
    return {hold.number: hold for hold in graph.holds if hold.pid == process.pid and hold.number is not None}


def _moment(axes: Axes, graph: Graph, numbers: range, before: Graph) -> None:
    sockets = _draw_sockets(axes, before)
    for place, process in enumerate(graph.processes):
        x = (0.1, 7.1)[place]
        axes.text(x + 1.4, 5.3, f"{process.name}'s table", ha="center", fontsize=9, color=INK)
        table, earlier = _table(graph, process), _table(before, before.processes[place])
        for row, number in enumerate(numbers):
            y = _TOP - _ROW * row
            hold, is_new = table.get(number), number not in earlier
            _entry(axes, x, y, number, _what(graph, hold), new=is_new)
            if hold and hold.object_id in sockets:
                edge, end = (2.95, 3.7) if place == 0 else (7.05, 6.3)
                drawing.arrow(axes, (edge, y + 0.35), (end, sockets[hold.object_id]), _NEW if is_new else INK)


def _draw_sockets(axes: Axes, before: Graph) -> dict[str, float]:
    """A box for each listening socket, named after its holder. Returns the heights of their middles, by object."""
    heights = {}
    owners = [(process.name, thing) for process in before.processes for thing in _listening(before, process)]
    for index, (owner, thing) in enumerate(owners):
        y = 3.9 - 1.9 * index
        drawing.box(axes, 3.75, y, 2.5, 1.1, _OBJECT)
        axes.text(5, y + 0.55, f"listening socket\nof the {owner}", ha="center", va="center", fontsize=8.5, color=INK)
        heights[thing.id] = y + 0.55
    return heights


def _listening(graph: Graph, process: ProcessNode) -> list[KernelObject]:
    return [thing for thing in graph.held_by(process.pid) if thing.listening]


def _entry(axes: Axes, x: float, y: float, number: int, what: str, *, new: bool) -> None:
    free = not what
    colour = _NEW if new and not free else colour_of(0) if what.startswith("listening") else _OTHER
    drawing.box(axes, x, y, 2.8, 0.7, colour, gone=free)
    weight = "bold" if new and not free else "normal"
    words = f"{number}  {what or 'free'}"
    axes.text(x + 1.4, y + 0.35, words, ha="center", va="center", fontsize=8.5, color=INK, weight=weight)


def _what(graph: Graph, hold: Hold | None) -> str:
    if hold is None:
        return ""
    kind = next(thing.kind for thing in graph.objects if thing.id == hold.object_id)
    return "channel" if kind == "Unix connection" else kind


def _in_words(graph: Graph, numbers: range) -> str:
    owners = {thing.id: thing.address for thing in graph.listening_sockets}
    tables = []
    for process in graph.processes:
        table = _table(graph, process)
        rows = (f"{number} {_row_in_words(graph, table.get(number), owners)}" for number in numbers)
        tables.append(f"{process.name}: {', '.join(rows)}")
    return "; ".join(tables) + "."


def _row_in_words(graph: Graph, hold: Hold | None, owners: dict[str, str]) -> str:
    address = owners.get(hold.object_id, "") if hold else ""
    return f"{_what(graph, hold) or 'free'} {address}".strip()
