"""The matrix of fates: a box for each blow, with who noticed it, by what, when, and what clients got.

It draws the cells of `cells.py`, those measured here in a solid frame, recorded ones in a thin one. It measures
nothing.

Taught in: 09_who_notices_a_death
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import FAINT, INK, Look, Picture, look_of
from lab_support.notebook.figures.fates.cells import ENDED, GOES_ON, NOBODY, FateCell, Live, killed, spread, stopped
from lab_support.notebook.page.gate import takes_prediction

STATES = {
    "idle": "idle: four clients come afterwards",
    "streaming": "streaming: four clients read",
    "starting": "starting: one client is in the queue",
}
MEANS = {
    "the process's end": Look("#f0e442", "", "o"),
    "parent-death signal": Look("#d55e00", "\\\\\\", "v"),
    "EOF on the pipe": Look("#0072b2", "---", "s"),
    "the liveness deadline": Look("#cc79a7", "ooo", "D"),
    NOBODY: Look("#ececec", "", "X"),
}
"""None is the look of a role, because the roles' own stand at the left."""
OTHER_MEANS = Look("#ffffff", "++", "P")
SERVERS = {ENDED: ("#a63c00", "■", "s"), GOES_ON: ("#00664a", "▶", ">")}
"""Colour, sign and marker."""
_ROLE, _CELL, _ROW, _GAP, _LINE = 1.25, 3.0, 1.5, 0.1, 0.175  # inches
_HEAD, _FOOT = 0.8, 1.1
_LETTERS, _BOLD_LETTERS = 40, 36  # of a line, in a cell


@dataclass(frozen=True, slots=True)
class Grid:
    """A matrix to draw: the heads of columns and rows, and cells by (row, column)."""

    columns: Sequence[str]
    rows: Sequence[str]
    cells: Mapping[tuple[int, int], FateCell]

    @property
    def size(self) -> tuple[float, float]:
        """Inches, without what stands above and below."""
        return _ROLE + len(self.columns) * (_CELL + _GAP), len(self.rows) * (_ROW + _GAP)


@takes_prediction
def draw(live: Live, recorded: Recording) -> Picture:
    """Each kind of process killed in each state. live: a cell's result, or dicts as `fate` returns them."""
    cells = killed(live, recorded)
    rows = [role for role in ("launcher", "coordinator", "api-0", "engine-0") if (role, "idle") in cells]
    placed = {
        (rows.index(role), list(STATES).index(state)): cell for (role, state), cell in cells.items() if role in rows
    }
    return _picture(Grid(list(STATES.values()), rows, placed), _of_kills(list(cells.values())), _source(recorded))


@takes_prediction
def draw_stopped(live: Live, recorded: Recording) -> Picture:
    """Each kind of process stopped, without a deadline and with one. live: like that of `draw`."""
    cells = stopped(live, recorded)
    rows = list(dict.fromkeys(role for role, _ in cells))
    deadlines = sorted({deadline for _, deadline in cells})
    heads = [f"--liveness-timeout {each:g}" if each else "no deadline" for each in deadlines]
    placed = {(rows.index(role), deadlines.index(each)): cell for (role, each), cell in cells.items()}
    names = [f"{role}\n{next(cell.state for (its, _), cell in cells.items() if its == role)}" for role in rows]
    return _picture(Grid(heads, names, placed), _of_stops(cells), _source(recorded))


# ---- findings --------------------------------------------------------------------------------------------------------


def _of_kills(cells: Sequence[FateCell]) -> str:
    noticed = [cell for cell in cells if cell.ms]
    if not noticed:
        return f"No death is noticed; {_survived(cells)}"
    every = f"All {len(cells)} deaths" if len(noticed) == len(cells) else f"{len(noticed)} of {len(cells)} deaths"
    slowest = max(median(cell.ms) for cell in noticed)
    return f"{every} are noticed, each after at most {spread([slowest])} (median); {_survived(cells)}"


def _survived(cells: Sequence[FateCell]) -> str:
    on = [cell for cell in cells if cell.server == GOES_ON]
    by_role = {each.role: ", ".join(cell.state for cell in on if cell.role == each.role) for each in on}
    roles = " and ".join(f"{role} ({states})" for role, states in by_role.items())
    return f"the server goes on only without {roles}" if on else "the server goes on after none"


def _of_stops(cells: Mapping[tuple[str, float], FateCell]) -> str:
    without = [cell for (_, deadline), cell in cells.items() if not deadline]
    with_one = [cell for (_, deadline), cell in cells.items() if deadline]
    missed = sum(not cell.ms for cell in without)
    found = f"Without a deadline, {missed} of {len(without)} stops are noticed by nobody"
    if not with_one:
        return found
    caught = [cell for cell in with_one if cell.ms]
    limit = max(cell.deadline for cell in with_one)
    ended = sum(cell.server != GOES_ON for cell in caught)
    return (
        f"{found};\none of {limit:g} s finds {len(caught)} of {len(with_one)}, and for {ended} of these the server ends"
    )


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _source(recorded: Recording) -> str:
    """The lines below: a figure says whether a GPU took part, and where its recorded part comes from."""
    where = recorded.machine
    return (
        "Engine cores: the stand-in for a GPU, paced like 8B.\n"
        f"Recorded: {where.machine}, {where.gpu or 'no GPU'}, {recorded.date[:10]}."
    )


def _picture(grid: Grid, finding: str, source: str) -> Picture:
    width, height = grid.size
    figure = Figure(figsize=(width, _HEAD + height + _FOOT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height + _FOOT, -_HEAD)  # inches, from the top
    axes.set_axis_off()
    axes.text(0.05, -_HEAD + 0.22, finding, fontsize=12, color=INK, va="center")
    for index, words in enumerate(grid.columns):
        axes.text(_left(index), -0.14, words, fontsize=10, weight="bold", color=INK, va="center")
    for index, words in enumerate(grid.rows):
        _role(axes, _top(index), words)
    for (row, column), cell in grid.cells.items():
        _cell(axes, _left(column), _top(row), cell)
    _legend(figure, grid.cells.values())
    figure.text(0.05 / width, 0.05 / figure.get_figheight(), source, fontsize=9, color="#666666", va="bottom")
    told = " ".join(cell.in_words for _, cell in sorted(grid.cells.items()))
    return Picture(figure, f"A matrix. {' '.join(finding.split())}. {told} {' '.join(source.split())}")


def _left(column: int) -> float:
    return _ROLE + column * (_CELL + _GAP)


def _top(row: int) -> float:
    return row * (_ROW + _GAP)


def _role(axes: Axes, top: float, words: str) -> None:
    role, _, state = words.partition("\n")
    look = look_of(role)
    axes.add_patch(Rectangle((0.05, top), 0.14, _ROW, facecolor=look.colour, hatch=look.hatch, edgecolor=INK))
    axes.text(0.26, top + _ROW / 2, f"{role}\n{state}".strip(), fontsize=10, weight="bold", color=INK, va="center")


def _cell(axes: Axes, left: float, top: float, cell: FateCell) -> None:
    axes.add_patch(Rectangle((left, top), _CELL, _ROW, facecolor="#eef7f3" if cell.server == GOES_ON else "white"))
    _strip(axes, left, top, cell)
    line, width, colour = ("-", 2.2, INK) if cell.live else ("--", 0.9, FAINT)
    axes.add_patch(
        Rectangle((left, top), _CELL, _ROW, facecolor="none", edgecolor=colour, linewidth=width, linestyle=line)
    )
    for index, (words, weight) in enumerate(_lines(cell)):
        axes.text(left + 0.4, top + 0.15 + index * _LINE, words, fontsize=9, weight=weight, color=INK, va="center")
    _foot(axes, left, top + _ROW - 0.13, cell)


def _strip(axes: Axes, left: float, top: float, cell: FateCell) -> None:
    """The means, as colour, hatch and marker; several share the strip."""
    all_means = cell.means or [NOBODY]
    height = _ROW / len(all_means)
    for index, means in enumerate(all_means):
        look = MEANS.get(means, OTHER_MEANS)
        place = (left, top + index * height)
        axes.add_patch(Rectangle(place, 0.3, height, facecolor=look.colour, hatch=look.hatch, edgecolor=INK, lw=0.6))
        axes.plot(left + 0.15, top + (index + 0.5) * height, look.marker, color="white", markeredgecolor=INK, ms=8)


def _lines(cell: FateCell) -> Iterator[tuple[str, str]]:
    """The text of a cell, line by line, each with its weight."""
    who = ", by ".join([cell.who.removesuffix(" by itself"), *filter(None, [" or ".join(cell.means)])])
    yield from ((line, "bold") for line in textwrap.wrap(who.replace("the liveness", "liveness"), _BOLD_LETTERS))
    words = [cell.when_in_words, cell.clients]
    words.append(f"answers lost after {spread(cell.lost_ms)}" if cell.lost_ms else "")
    words.append(f"asked again: {cell.again}" if cell.again else "")
    words.append(f"a new {cell.role} after {spread(cell.replaced_ms)}" if cell.replaced_ms else "")
    for each in filter(None, words):
        yield from (
            (line, "normal")
            for line in textwrap.wrap(each.replace(" answered", "\N{NO-BREAK SPACE}answered"), _LETTERS)
        )


def _foot(axes: Axes, left: float, middle: float, cell: FateCell) -> None:
    colour, sign, _ = SERVERS[cell.server]
    axes.text(left + 0.4, middle, f"{sign} {cell.server}", fontsize=9, weight="bold", color=colour, va="center")
    origin = axes.text(left + _CELL - 0.06, middle, cell.origin, fontsize=9, ha="right", va="center", color="#666666")
    if cell.live:
        origin.set(color=INK, weight="bold")


def _legend(figure: Figure, cells: Iterable[FateCell]) -> None:
    present = {means for cell in cells for means in cell.means or [NOBODY]}
    named = [*(means for means in MEANS if means in present), *sorted(present - MEANS.keys())]
    frames = [
        Line2D([], [], color=INK, linewidth=2.2, label="measured here"),
        Line2D([], [], color=FAINT, linewidth=0.9, linestyle="--", label="recorded"),
    ]
    servers = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=f"the server {words}")
        for words, (colour, _, marker) in SERVERS.items()
    ]
    for entries, height in (([_entry(means) for means in named], 0.68), ([*servers, *frames], 0.38)):
        place = (0.0, height / figure.get_figheight())
        figure.legend(handles=entries, loc="lower left", ncols=len(entries), fontsize=9, frameon=False,
                      bbox_to_anchor=place, handlelength=2.2, handleheight=1.2)  # fmt: skip


def _entry(means: str) -> Patch:
    look = MEANS.get(means, OTHER_MEANS)
    words = "nobody notices" if means == NOBODY else f"noticed by {means}"
    return Patch(facecolor=look.colour, hatch=look.hatch, edgecolor=INK, label=words)
