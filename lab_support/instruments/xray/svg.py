"""An X-ray as an SVG picture, written by hand: processes as boxes above, kernel objects as rows below.

Each process has a column and a thin line down into the kernel; each object is a bar across the columns of its holders,
with the descriptor number on each column. Nothing can overlap, because the columns follow the tree's order and the rows
come from `rows.py`. Colours are Okabe and Ito's; the words and marks say the same without them. Pure functions; no
library.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import accumulate

from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray.graph import Difference, Graph, ProcessNode
from lab_support.instruments.xray.rows import Row, Rows, Terminal, arrange, counted
from lab_support.instruments.xray.text import depths_of, epoll_words, finding, in_words, label, row_words

INK, GREY, PALE = "#222222", "#767676", "#c9c9c9"
_COLOURS = {
    xray_graph.LISTENING_SOCKET: "#d55e00",
    xray_graph.TCP_CONNECTION: "#e69f00",
    xray_graph.UNIX_CONNECTION: "#0072b2",
    xray_graph.SOCKET: "#0072b2",
    xray_graph.PIPE: "#009e73",
    xray_graph.SHARED_MEMORY: "#cc79a7",
    xray_graph.GPU_DEVICE: "#000000",
    xray_graph.EPOLL_SET: "#56b4e9",
    xray_graph.EVENTFD: "#56b4e9",
}
_STATES = {"T": "stopped", "t": "traced", "D": "stuck in the kernel"}
_THICK = frozenset({xray_graph.LISTENING_SOCKET, xray_graph.SHARED_MEMORY, xray_graph.GPU_DEVICE})

# All in pixels. A digit or letter of the pills' font takes _CHARACTER, one of the title's about _TITLE_CHARACTER.
# JupyterLab does not scale a picture to the page's width but cuts it off, so lines of words end before that.
_MARGIN, _LABEL, _COLUMN = 14, 236, 104
_BOX_WIDTH, _BOX_HEIGHT, _LEVEL = 94, 78, 96
_ROW, _PILL, _CHARACTER, _TITLE_CHARACTER = 46, 20, 7.2, 8.8
_TITLE, _TITLE_LINE, _LINE, _NOTE_CHARACTER = 44, 20, 17, 6.6
_DETAIL_CHARACTERS, _CAPTION_CHARACTERS, _CAPTION_LINE, PAGE_WIDTH = 38, 16, 11, 840


@dataclass(frozen=True, slots=True)
class _Places:
    """Positions. columns: middle of each process's column, boxes: top of its box, both by pid."""

    width: int
    columns: dict[int, float]
    boxes: dict[int, float]
    kernel: float
    """Top of the first row."""
    tops: tuple[float, ...]
    """Top of each row, then the end of the last one."""

    def row(self, index: int) -> float:
        """Middle of a row's bar. Words below the bar make the row higher but don't move the bar."""
        return self.tops[index] + _ROW / 2


def svg(graph: Graph, before: Graph | None = None) -> str:
    """The picture. before: an earlier X-ray, to mark what is new and to list what is gone."""
    arranged = arrange(graph)
    change = xray_graph.compare(before, graph) if before else None
    places = _places(graph, arranged)
    notes = _notes(arranged, graph, change)
    bottom = places.tops[-1] + _ROW / 2 + 4
    height = bottom + _LINE * len(notes) + _MARGIN
    names = {process.pid: label(graph, process) for process in arranged.processes}
    parts = [
        *_head(graph, arranged, names, places.width, height),
        *_bands(arranged, places),
        *_kernel_line(places),
        *_lifelines(arranged, places),
        *_tree_lines(graph, arranged, places),
        *(part for process in arranged.processes for part in _box(process, places, change)),
        *(part for index, row in enumerate(arranged.rows) for part in _bar(row, index, places, names, change)),
        *(_text(_MARGIN, bottom + _LINE * index, line, 12, GREY) for index, line in enumerate(notes)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _places(graph: Graph, arranged: Rows) -> _Places:
    depths = depths_of(graph)
    deepest = max(depths.values())
    left = _MARGIN + _LABEL
    columns = {process.pid: left + _COLUMN * (index + 0.5) for index, process in enumerate(arranged.processes)}
    # Processes outside the tree stand on the lowest level, without a line.
    levels = {process.pid: deepest if process.outside else depths[process.pid] for process in arranged.processes}
    top = _TITLE + _TITLE_LINE * (len(_title_lines(graph)) - 1)
    boxes: dict[int, float] = {pid: top + _LEVEL * level for pid, level in levels.items()}
    width = max(PAGE_WIDTH, left + _COLUMN * len(columns) + _MARGIN)
    kernel = top + _LEVEL * deepest + _BOX_HEIGHT + 22
    tops = accumulate((_row_height(row) for row in arranged.rows), initial=kernel + 18)
    return _Places(width, columns, boxes, kernel, tuple(tops))


def _row_height(row: Row) -> float:
    lines = max((len(_caption(row, one)) for one in row.terminals), default=0)
    return _ROW + _CAPTION_LINE * max(0, lines - 1)


# ---- frame -----------------------------------------------------------------------------------------------------------


def _head(graph: Graph, arranged: Rows, names: dict[int, str], width: float, height: float) -> Iterator[str]:
    words = [f"Processes: {', '.join(names.values())}.", *(row_words(names, row) for row in arranged.rows)]
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="xray-title xray-words" '
        'style="max-width:100%;height:auto" font-family="DejaVu Sans, Verdana, Arial, sans-serif">'
    )
    yield f'<title id="xray-title">{escape(finding(graph))}</title>'
    yield f'<desc id="xray-words">{escape(" ".join([*words, *arranged.left_out, *graph.notes]))}</desc>'
    yield f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>'
    for index, line in enumerate(_title_lines(graph)):
        yield _text(_MARGIN, 25 + _TITLE_LINE * index, line, 15, INK, weight="bold")


def _title_lines(graph: Graph) -> list[str]:
    """The finding; if it needs several lines, it is broken after semicolons."""
    lines: list[str] = []
    for clause in re.split(r"(?<=;) ", finding(graph)):
        together = _wrapped(" ".join([*lines[-1:], clause]), _TITLE_CHARACTER)
        lines = [*lines[:-1], *together] if len(together) == 1 else [*lines, *_wrapped(clause, _TITLE_CHARACTER)]
    return lines


def _wrapped(words: str, character: float) -> list[str]:
    """Lines no wider than the page, which is the least width of a picture."""
    return textwrap.wrap(words, int((PAGE_WIDTH - 2 * _MARGIN) / character))


def _notes(arranged: Rows, graph: Graph, change: Difference | None) -> list[str]:
    sentences = [_legend(arranged), *arranged.left_out, *graph.notes]
    if change:
        sentences.append(_change_words(change))
    return [line for sentence in sentences for line in _wrapped(sentence, _NOTE_CHARACTER)]


def _legend(arranged: Rows) -> str:
    terminals = [one for row in arranged.rows for one in row.terminals]
    words = ["On a bar: the descriptor number in the process above."]
    if any(one.reads or one.writes for one in terminals):
        words.append("r, w: the end of a pipe that reads, writes.")
    if any(one.bound or one.listens for one in terminals):
        words.append("Filled: the side to which the others connect.")
    if any(one.mapped for one in terminals):
        words.append("mapped: the memory is in its address space.")
    if any(process.outside for process in arranged.processes):
        words.append("Dashed: not below the root.")
    return " ".join(words)


def _change_words(change: Difference) -> str:
    gone = ", ".join(f"{one.name} ({one.pid})" for one in change.processes_gone)
    ended = f"Gone: {gone}" if gone else "No process ended"
    objects = "no kernel object came or went"
    if change.objects_gone or change.objects_new:
        objects = (
            f"{len(change.objects_gone)} objects gone and {len(change.objects_new)} new, "
            f"including those that one process alone holds"
        )
    return f"★ is new. {ended}; {objects}."


def _bands(arranged: Rows, places: _Places) -> Iterator[str]:
    """A pale background for every second row, so that the eye can follow it."""
    for index in range(0, len(arranged.rows), 2):
        top, end = places.tops[index : index + 2]
        yield f'<rect x="0" y="{top:.1f}" width="{places.width}" height="{end - top:g}" fill="#f5f5f5"/>'


def _kernel_line(places: _Places) -> Iterator[str]:
    y = places.kernel
    yield _line(_MARGIN, y, places.width - _MARGIN, y, GREY, 1, dashed=True)
    yield _text(_MARGIN, y - 6, "processes", 11, GREY)
    yield _text(_MARGIN, y + 13, "in the kernel", 11, GREY)


def _lifelines(arranged: Rows, places: _Places) -> Iterator[str]:
    for process in arranged.processes:
        rows = [
            index for index, row in enumerate(arranged.rows) if any(one.pid == process.pid for one in row.terminals)
        ]
        if rows:
            x, top = places.columns[process.pid], places.boxes[process.pid] + _BOX_HEIGHT
            yield _line(x, top, x, places.row(max(rows)), PALE, 1.5)


# ---- processes -------------------------------------------------------------------------------------------------------


def _tree_lines(graph: Graph, arranged: Rows, places: _Places) -> Iterator[str]:
    """Lines from each parent's side to above its last child, and from there down to the top of each child's box."""
    children: dict[int, list[int]] = {}
    for process in arranged.processes:
        if not process.outside and process.pid != graph.root:
            children.setdefault(process.parent_pid, []).append(process.pid)
    for parent, pids in children.items():
        y = places.boxes[parent] + _BOX_HEIGHT / 2
        ends = [places.columns[pid] for pid in pids]
        yield _line(places.columns[parent] + _BOX_WIDTH / 2, y, max(ends), y, GREY, 1.5)
        for pid in pids:
            yield _line(places.columns[pid], y, places.columns[pid], places.boxes[pid], GREY, 1.5)


def _box(process: ProcessNode, places: _Places, change: Difference | None) -> Iterator[str]:
    x, y = places.columns[process.pid], places.boxes[process.pid]
    new = change is not None and process in change.processes_new
    dashes = ' stroke-dasharray="5 4"' if process.outside else ""
    frame = f'fill="{"white" if process.outside else "#eef3f7"}" stroke="{INK}" stroke-width="{2.5 if new else 1.2}"'
    yield f"<g><title>{escape(_process_words(process))}</title>"
    yield (
        f'<rect x="{x - _BOX_WIDTH / 2:.1f}" y="{y:.1f}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="7" '
        f"{frame}{dashes}/>"
    )
    names, facts = _name_lines(("★ " if new else "") + process.name), _facts(process)
    lines = [(line, INK, "bold") for line in names] + [(line, GREY, "") for line in facts]
    top = y + (_BOX_HEIGHT - 13 * min(len(lines), 5)) / 2 + 10
    for index, (line, colour, weight) in enumerate(lines[:5]):
        yield _text(x, top + 13 * index, line, 11 if weight else 10, colour, anchor="middle", weight=weight)
    yield "</g>"


def _facts(process: ProcessNode) -> list[str]:
    """Facts below a name, the pid first: the last ones are dropped if a long name needs the room."""
    held = "not readable" if process.descriptors is None else counted(process.descriptors, "descriptor")
    threads = counted(process.threads, "thread")
    return [f"pid {process.pid}", *([_STATES[process.state]] if process.state in _STATES else []), held, threads]


def _process_words(process: ProcessNode) -> str:
    held = "descriptors not readable" if process.descriptors is None else f"{process.descriptors} descriptors"
    return f"{process.title} (pid {process.pid}, state {process.state}, {process.threads} threads, {held})"


def _name_lines(name: str) -> list[str]:
    """At most three lines that fit into a box, broken between words."""
    spaced = name.replace(":", ": ").replace("_", "_ ").replace("-", "- ")
    lines: list[str] = []
    for word in spaced.split():
        for piece in textwrap.wrap(word, 12):
            joint = "" if lines and lines[-1][-1] in ":_-" and f"{lines[-1]} {piece}" not in name else " "
            if lines and len(lines[-1]) + len(joint) + len(piece) <= 12:
                lines[-1] += joint + piece
            else:
                lines.append(piece)
    return lines if len(lines) <= 3 else [*lines[:2], lines[2][:11] + "…"]


# ---- kernel objects --------------------------------------------------------------------------------------------------


def _bar(row: Row, index: int, places: _Places, names: dict[int, str], change: Difference | None) -> Iterator[str]:
    y, colour = places.row(index), _COLOURS.get(row.kind, GREY)
    new = change is not None and {thing.id for thing in change.objects_new} >= set(row.ids)
    yield f"<g><title>{escape(row_words(names, row))}</title>"
    yield f'<rect x="{_MARGIN}" y="{y - 13:.1f}" width="5" height="26" rx="2" fill="{colour}"/>'
    yield _text(_MARGIN + 12, y - 1, ("★ " if new else "") + row.title, 12, INK, weight="bold")
    yield _text(_MARGIN + 12, y + 13, _cut(row.detail, _DETAIL_CHARACTERS), 10, GREY)
    xs = [places.columns[one.pid] for one in row.terminals]
    if len(xs) > 1:
        yield _line(min(xs), y, max(xs), y, colour, 4 if row.kind in _THICK else 2)
    for one in row.terminals:
        yield from _arrow(row, one, places, y, colour)
    later = {hold.pid for hold in change.holds_new if hold.object_id in row.ids} if change else set()
    for one in row.terminals:
        yield from _pill(row, one, places.columns[one.pid], y, colour)
        if one.pid in later:
            yield _text(places.columns[one.pid], y - 14, "★", 12, INK, anchor="middle", halo=True)
    yield "</g>"


def _arrow(row: Row, one: Terminal, places: _Places, y: float, colour: str) -> Iterator[str]:
    """An arrowhead where a pipe's bytes arrive: at a process that only reads, on the side of the writers."""
    writers = [places.columns[other.pid] for other in row.terminals if other.writes and other.pid != one.pid]
    if not one.reads or one.writes or not writers:
        return
    x, half = places.columns[one.pid], _pill_width(_pill_text(one)) / 2
    for side in sorted({1 if writer > x else -1 for writer in writers}):
        tip = x + side * (half + 1)
        yield f'<path d="M{tip:.1f} {y:.1f}l{side * 9} -5v10z" fill="{colour}"/>'


def _pill(row: Row, one: Terminal, x: float, y: float, colour: str) -> Iterator[str]:
    text = _pill_text(one)
    width = _pill_width(text)
    filled = one.bound or bool(one.listens)
    yield (
        f'<rect x="{x - width / 2:.1f}" y="{y - _PILL / 2:.1f}" width="{width:.1f}" height="{_PILL}" '
        f'rx="{_PILL / 2:g}" fill="{colour if filled else "white"}" stroke="{colour}" stroke-width="2"/>'
    )
    yield _text(x, y + 4, text, 11, _on(colour) if filled else INK, anchor="middle")
    for index, line in enumerate(_caption(row, one)):
        yield _text(x, y + 21 + _CAPTION_LINE * index, line, 10, GREY, anchor="middle", halo=True)


def _caption(row: Row, one: Terminal) -> list[str]:
    """The lines below a pill."""
    below = epoll_words(row, one) or ("mapped" if one.mapped and _pill_text(one) != "mapped" else "")
    return textwrap.wrap(below, _CAPTION_CHARACTERS)


def _pill_text(one: Terminal) -> str:
    """As many numbers as fit into a column; the row's title has them all."""
    parts = [f"{mark}{number}" for mark, numbers in (("r", one.reads), ("w", one.writes)) for number in numbers]
    parts += [str(number) for number in (*one.listens, *one.numbers)]
    if not parts:
        return in_words(one)
    room = int((_COLUMN - 20) / _CHARACTER)
    shown: list[str] = []
    for index, part in enumerate(parts):
        more = f" +{len(parts) - index - 1}" if index + 1 < len(parts) else ""
        if shown and len(" ".join([*shown, part])) + len(more) > room:
            return f"{' '.join(shown)} +{len(parts) - index}"
        shown.append(part)
    return " ".join(shown)


def _pill_width(text: str) -> float:
    return max(26.0, len(text) * _CHARACTER + 12)


def _on(colour: str) -> str:
    """A text colour that can be read on `colour`."""
    return INK if colour in ("#e69f00", "#cc79a7", "#56b4e9") else "white"


# ---- SVG's words -----------------------------------------------------------------------------------------------------


def _text(
    x: float, y: float, words: str, size: int, colour: str, *, anchor: str = "", weight: str = "", halo: bool = False
) -> str:
    more = f' text-anchor="{anchor}"' if anchor else ""
    more += f' font-weight="{weight}"' if weight else ""
    more += ' paint-order="stroke" stroke="white" stroke-width="3"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, width: float, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashes}/>'


def _cut(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"
