"""The timeline of a cell's processes: their parents, execs, and ends. It measures nothing."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import FAINT, HATCHES, INK, Picture, quiet
from lab_support.notebook.cells.cell_result import CellProcess, ProcessResult
from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.page.gate import takes_prediction
from lab_support.signal_names import signal_name

_BAR = 0.42
_LEVEL = 0.19  # between two lines of words above a bar
_CHARACTER = 0.012  # the width of one, as a part of the cell's time


@takes_prediction
def timeline(result: ProcessResult, moments: str = "", finding: str = "") -> Picture:
    """One bar for each process, from its creation to its end, with a line down from its parent.

    moments: the name of a field, such as "moment"; each event that has it is marked on its process's bar, with the
    field's words above it. finding: the title; by default, who made whom, and how they ended.
    """
    processes = result.processes
    marked = [event for event in result.events if moments in event.fields]
    figure = Figure(figsize=(8.5, 1.3 + (0.85 if marked else 0.48) * len(processes)), layout="constrained")
    axes = figure.add_subplot()
    rows = {process.name: row for row, process in enumerate(processes)}
    for row, process in enumerate(processes):
        _bar(axes, row, process, result.seconds)
        if process.parent in rows:
            _line_from_parent(axes, rows[process.parent], row, process.made)
    for name, row in rows.items():
        _mark(axes, row, [(each.at, str(each.fields[moments])) for each in marked if each.process == name], result)
    axes.set_yticks(range(len(processes)), [process.name for process in processes])
    axes.set_ylim(len(processes) - 0.4, -0.9 if marked else -0.7)
    axes.set_xlim(-0.02 * result.seconds, result.seconds * 1.22)
    axes.set_xlabel("seconds since the cell began  (○ made by fork   □ became a program by exec   ✕ ended by a signal)")
    axes.xaxis.label.set_fontsize(9)
    quiet(axes)
    finding = finding or _finding(result)
    axes.set_title(finding, loc="left", fontsize=11, color=INK, wrap=True)
    told = "".join(f" {each.process} at {each.at:.2f} s: {each.fields[moments]}." for each in marked)
    return Picture(figure, f"Timeline. {finding}. " + " ".join(map(_in_words, processes)) + told)


def _bar(axes: Axes, row: int, process: CellProcess, seconds: float) -> None:
    end = process.ended if process.ended is not None else seconds
    axes.barh(
        row, end - process.made, left=process.made, height=_BAR, color=colour_of(row), edgecolor=INK, alpha=0.75,
        hatch=HATCHES[row % len(HATCHES)], linewidth=0.8, zorder=2,
    )  # fmt: skip
    axes.plot(process.made, row, "o", markerfacecolor="white", markeredgecolor=INK, markersize=7, zorder=4)
    for each in process.execs:
        axes.plot(each.at, row, "s", markerfacecolor="white", markeredgecolor=INK, markersize=6, zorder=5)
    by_signal = process.killed or (process.exit_code or 0) < 0
    axes.plot(end, row, "X" if by_signal else "|", color=INK, markersize=9, zorder=5)
    axes.annotate(_end_in_words(process), (end, row), (9, 0), textcoords="offset points", va="center", fontsize=9)


def _mark(axes: Axes, row: int, moments: Sequence[tuple[float, str]], result: ProcessResult) -> None:
    """A mark on the bar for each moment, and its words above the bar: higher up if the ones before need the room."""
    taken: list[float] = []  # for each level, the place where its last words end
    for at, words in moments:
        level = next((level for level, end in enumerate(taken) if end < at), len(taken))
        taken[level : level + 1] = [at + _CHARACTER * result.seconds * (len(words) + 2)]
        top = row - _BAR / 2
        axes.plot([at, at], [top - 0.12 - _LEVEL * level, row], color=INK, linewidth=1, zorder=3)
        axes.plot(at, row, "v", color=INK, markersize=6, zorder=5)
        axes.text(at, top - 0.1 - _LEVEL * level, f" {words}", fontsize=9, color=INK, va="bottom", zorder=6)


def _line_from_parent(axes: Axes, parent: int, row: int, at: float) -> None:
    axes.plot([at, at], [parent, row], color=FAINT, linewidth=1.1, zorder=1)


def _end_in_words(process: CellProcess) -> str:
    if process.killed:
        return "killed with the cell"
    if process.exit_code is None:
        return "exit code unknown"
    return f"exit {process.exit_code}" if process.exit_code >= 0 else signal_name(process.exit_code)


def _finding(result: ProcessResult) -> str:
    made = len(result.processes) - 1
    more = f"{made} more process{'es' if made > 1 else ''}"
    words = f"{result.processes[0].name} made {more}" if made else "One process, and no other"
    if deeper := sum(process.parent != result.processes[0].name for process in result.processes[1:]):
        words = f"{made + 1} processes, {deeper} of them made by processes other than {result.processes[0].name}"
    killed = [process.name for process in result.processes if process.killed]
    if killed:
        who = ("both" if made == 1 else "all") if len(killed) == made + 1 > 1 else ", ".join(killed)
        return f"{words}; {who} had to be killed"
    badly = [f"{each.name} {_how(each.exit_code)}" for each in result.processes if each.exit_code]
    return f"{words}; {', '.join(badly) or 'all ended with 0'}"


def _how(exit_code: int) -> str:
    return f"died by {signal_name(exit_code)}" if exit_code < 0 else f"ended with {exit_code}"


def _in_words(process: CellProcess) -> str:
    maker = f"made by {process.parent} at" if process.parent else "began at"
    execs = "".join(f", became {each.command.split(' ')[0]} at {each.at:.2f} s" for each in process.execs)
    end = f", until {process.ended:.2f} s" if process.ended is not None else ""
    return f"{process.name}: {maker} {process.made:.2f} s{execs}{end}, {_end_in_words(process)}."
