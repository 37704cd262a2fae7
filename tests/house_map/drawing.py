"""The map of rooms as SVG: what imports stands above what is imported, so every arrow points down.

Two bars take the place of many arrows: the commands at the top may import every room, and every room may import what
stands at the bottom. Rooms that no arrow connects are towers of their own, side by side. The drawing has no random part
and no dates, so the same code gives the same bytes.
"""

import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

import lab_support
from tests.house_map.code import TOP, Package
from tests.test_house import LIVES_IN, MAY_IMPORT

WIDTH, GAP, LANE, BETWEEN, MARGIN = 208, 26, 18, 56, 20
LINE, BAR, LETTER = 17, 42, 7  # a letter is at most so wide on average
# Okabe and Ito's colours, which the colour-blind can tell apart: the edge of a box, its fill by day and by night.
COLOURS = [("#0072b2", "#e3f0f8", "#12303f"), ("#d55e00", "#fbeadd", "#40240f"), ("#009e73", "#e0f4ed", "#0c3327")]
STYLE = """
  text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1b1b1b }
  .name { font-weight: 700; font-size: 15px }
  .small { font-size: 12px; fill: #484848 }
  .ground { fill: #ffffff }
  .bar { fill: #eeeeee; stroke: #767676 }
  .arrow { fill: none; stroke: #555555; stroke-width: 1.6 }
  .head { fill: #555555 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f0f0 } .small { fill: #c8c8c8 } .ground { fill: #16191d } .bar { fill: #2a2e33; stroke: #9a9a9a }
    .arrow { stroke: #b8b8b8 } .head { fill: #b8b8b8 }
  }
"""

Edge = tuple[str, str]


@dataclass(eq=False)
class Spot:
    """A room's box, or a lane in which a long arrow passes a row of boxes (`room` is "" then)."""

    room: str
    width: int
    x: float = 0
    y: float = 0
    height: float = 0
    above: list["Spot"] = field(default_factory=list)
    below: list["Spot"] = field(default_factory=list)

    @property
    def centre(self) -> float:
        return self.x + self.width / 2


def drawn(package: Package) -> str:
    towers = [rows_of(package, rooms) for rooms in towers_of(package)]
    left, top = float(MARGIN), MARGIN + BAR + LINE + BETWEEN
    bottom = top + max(sum(row_height(package, row) + BETWEEN for row in rows) for rows in towers)
    parts = []
    for rows, (edge, _, _) in zip(towers, itertools.cycle(COLOURS), strict=False):
        width = max(row_width(row) for row in rows)
        place(package, rows, left, bottom, width)
        parts += [line for row in rows for spot in row for line in spot_lines(package, spot, edge)]
        left += width + 2 * GAP
    width = left - 2 * GAP + MARGIN
    for_all = bar_lines(bottom, width, "For all: every room may import these", names(package, commands=False))
    commands = bar_lines(MARGIN, width, "The commands: these may import every room", names(package, commands=True))
    height = bottom + bar_height(width, names(package, commands=False)) + MARGIN
    return "\n".join([*opening(package, width, height), *parts, *commands, *for_all, "</svg>", ""])


def arrows_of(package: Package) -> set[Edge]:
    """Between rooms of the first level that have rules."""
    ends = {(start.split("/")[0], end.split("/")[0]) for start, end in package.arrows}
    return {(start, end) for start, end in ends if start != end and {start, end} <= set(rooms_of(package))}


def rooms_of(package: Package) -> list[str]:
    """Those of the first level that have rules. A room without rules is for all, as the files at the top are."""
    return sorted({room.split("/")[0] for room in package.sizes} & MAY_IMPORT.keys())


def towers_of(package: Package) -> list[set[str]]:
    """Rooms that arrows connect, whichever way these point. Larger towers first."""
    towers = [{room} for room in rooms_of(package)]
    for start, end in sorted(arrows_of(package)):
        joined = [tower for tower in towers if {start, end} & tower]
        towers = [tower for tower in towers if tower not in joined] + [set().union(*joined)]
    return sorted(towers, key=lambda tower: (-len(tower), sorted(tower)))


def rows_of(package: Package, rooms: set[str]) -> list[list[Spot]]:
    """The tower's rows from top to bottom: a room stands below all that import it, as low as it can."""
    edges = [edge for edge in sorted(arrows_of(package)) if edge[0] in rooms]
    levels = {room: level_of(room, edges, ()) for room in sorted(rooms)}
    rows: list[list[Spot]] = [[] for _ in range(max(levels.values()) + 1)]
    spots = {room: Spot(room, WIDTH) for room in levels}
    for room, level in levels.items():
        rows[level].append(spots[room])
    for start, end in edges:
        lanes = [Spot("", LANE) for _ in range(levels[end] + 1, levels[start])]
        for level, lane in zip(range(levels[end] + 1, levels[start]), lanes, strict=True):
            rows[level].append(lane)
        for low, high in itertools.pairwise([spots[end], *lanes, spots[start]]):
            low.above.append(high)
            high.below.append(low)
    return untangled(rows[::-1])


def level_of(room: str, edges: list[Edge], path: tuple[str, ...]) -> int:
    """The longest way down from a room, in arrows."""
    if room in path:
        raise ValueError(f"rooms import each other in a circle: {' → '.join((*path, room))}")
    return max((1 + level_of(end, edges, (*path, room)) for start, end in edges if start == room), default=0)


def untangled(rows: list[list[Spot]]) -> list[list[Spot]]:
    """Each row in the order in which fewest arrows cross, given its neighbours; a few times up and down."""
    for number in [*range(len(rows)), *reversed(range(len(rows)))] * 3:
        orders = itertools.permutations(rows[number]) if len(rows[number]) < 8 else [tuple(rows[number])]
        rows[number] = list(min(orders, key=lambda order, number=number: tangle(rows, number, order)))
    return rows


def tangle(rows: list[list[Spot]], number: int, order: tuple[Spot, ...]) -> tuple[int, int]:
    """Crossings, and how far the arrows go sideways."""
    tried = [*rows[:number], list(order), *rows[number + 1 :]]
    at = {id(spot): 2 * place - len(row) for row in tried for place, spot in enumerate(row)}
    lines = [[(at[id(spot)], at[id(low)]) for spot in row for low in spot.below] for row in tried]
    crossed = sum((a - c) * (b - d) < 0 for row in lines for (a, b), (c, d) in itertools.combinations(row, 2))
    return crossed, sum(abs(a - b) for row in lines for a, b in row)


def row_width(row: list[Spot]) -> float:
    return sum(spot.width + GAP for spot in row) - GAP


def row_height(package: Package, row: list[Spot]) -> float:
    return max(box_height(package, spot.room) for spot in row)


def place(package: Package, rows: list[list[Spot]], left: float, bottom: float, width: float) -> None:
    """Rows from the bottom, so that all towers stand on it; each in the middle of its tower."""
    for row in reversed(rows):
        height = row_height(package, row)
        bottom -= height + BETWEEN
        x = left + (width - row_width(row)) / 2
        for spot in row:
            spot.x, spot.y, spot.height = x, bottom, height
            x += spot.width + GAP


def described(room: str) -> list[str]:
    """The first words of the room's line in `lab_support/__init__.py`, up to its first comma, colon or semicolon."""
    lines = (line.split("/", 1) for line in (lab_support.__doc__ or "").splitlines() if line.startswith("    "))
    words = next((rest for name, rest in lines if name.strip() == room), "")
    return wrapped(words.replace(";", ",").replace(":", ",").split(",")[0].strip())


def lines_of(package: Package, room: str) -> list[str]:
    """The words below a room's name: a few on it, the rooms within, the libraries that few rooms may import."""
    within = [name.split("/")[1] for name in package.sizes if name.startswith(f"{room}/") and name.count("/") == 1]
    libraries = sorted(library for library, homes in LIVES_IN.items() if room in homes)
    lists = [("rooms: ", within), ("libraries: ", libraries)]
    return described(room) + [line for title, names in lists if names for line in wrapped(title + ", ".join(names))]


def wrapped(text: str, letters: int = 30) -> list[str]:
    return textwrap.wrap(text, letters, break_on_hyphens=False)


def box_height(package: Package, room: str) -> float:
    return 34 + LINE * len(lines_of(package, room)) if room else 0


def spot_lines(package: Package, spot: Spot, edge: str) -> Iterator[str]:
    """A box with its words, and the arrows that leave it."""
    if spot.room:
        yield (f'<rect class="t{edge[1:]}" x="{spot.x:g}" y="{spot.y:g}" width="{spot.width}" '
               f'height="{spot.height:g}" rx="7" stroke="{edge}" stroke-width="2"/>')  # fmt: skip
        yield written(spot.centre, spot.y + 23, f"{spot.room}/", "name")
        for number, line in enumerate(lines_of(package, spot.room)):
            yield written(spot.centre, spot.y + 42 + LINE * number, line, "small")
        for low in spot.below:
            yield arrow(spot, low)


def arrow(start: Spot, end: Spot) -> str:
    """From a box down to the next one, through the lanes between."""
    x, y = port(start, start.below, end), start.y + start.height
    path = f"M{x:g} {y:g}"
    while not end.room:
        path += curve(x, y, end.centre, end.y) + f" V{end.y + end.height:g}"
        x, y, start, end = end.centre, end.y + end.height, end, end.below[0]
    last = port(end, end.above, start)
    path += curve(x, y, last, end.y - 8)
    head = f"M{last - 5:g} {end.y - 9:g} h10 L{last:g} {end.y - 1:g} z"
    return f'<path class="arrow" d="{path}"/><path class="head" d="{head}"/>'


def curve(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (y + to_y) / 2
    return f" C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"


def port(spot: Spot, others: list[Spot], other: Spot) -> float:
    """Where on its edge an arrow begins or ends: in the order of the other ends."""
    order = sorted(others, key=lambda each: (each.centre, each.room))
    return spot.x + spot.width * (order.index(other) + 1) / (len(order) + 1)


def names(package: Package, commands: bool) -> str:
    at_top = [name for name, path in package.modules.items() if package.room(name) == TOP and path.stem != "__init__"]
    files = [name.split(".")[-1] for name in at_top if (name in package.commands) == commands]
    for_all = {room.split("/")[0] for room in package.sizes} - {TOP, *rooms_of(package)}
    return ", ".join(files if commands else [*(f"{room}/" for room in sorted(for_all)), *files])


def bar_lines(y: float, width: float, title: str, what: str) -> Iterator[str]:
    yield (f'<rect class="bar" x="{MARGIN}" y="{y:g}" width="{width - 2 * MARGIN:g}" '
           f'height="{bar_height(width, what):g}" rx="7"/>')  # fmt: skip
    yield written(width / 2, y + 24, title, "name")
    for number, line in enumerate(wrapped(what, int((width - 3 * MARGIN) / LETTER))):
        yield written(width / 2, y + 44 + LINE * number, line, "small")


def bar_height(width: float, what: str) -> float:
    return BAR + LINE * len(wrapped(what, int((width - 3 * MARGIN) / LETTER)))


def written(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="middle">{escape(text)}</text>'


def opening(package: Package, width: float, height: float) -> list[str]:
    fills = "".join(f"  .t{edge[1:]} {{ fill: {day} }}\n" for edge, day, _ in COLOURS)
    fills += "".join(f"  @media (prefers-color-scheme: dark) {{ .t{edge[1:]} {{ fill: {night} }} }}\n"
                     for edge, _, night in COLOURS)  # fmt: skip
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        'aria-labelledby="title words">',
        "<!-- Made from the code by tests/house_map: don't edit. -->",
        '<title id="title">The rooms of lab_support, and which imports which</title>',
        f'<desc id="words">{escape(in_words(package))}</desc>',
        f"<style>{STYLE}{fills}</style>",
        '<rect class="ground" width="100%" height="100%"/>',
    ]


def in_words(package: Package) -> str:
    """The arrows as sentences: the picture's description, here and in lab_support/README.md."""
    ends = {room: [end for start, end in sorted(arrows_of(package)) if start == room] for room in rooms_of(package)}
    lowest = [room for room in ends if not ends[room]]
    said = [f"{room} imports {listed(ends[room])}" for room in ends if ends[room]]
    return (
        f"The rooms as boxes, with an arrow for each import: {'; '.join(said)}. {listed(lowest)} import no other room."
    )


def listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
