"""`lab.spans`: the activities of a cell's processes over time, as reported by `emit(done="…")`. It measures nothing.

Each such event ends a span. The span began with the process's previous such event, or with the process's creation.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import FAINT, HATCHES, INK, Picture, quiet, title
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.page.gate import takes_prediction


@dataclass(frozen=True, slots=True)
class Span:
    """One activity. Times are seconds since the cell began. done: in the process's own words."""

    process: str
    done: str
    began: float
    ended: float

    @property
    def ms(self) -> float:
        return 1000 * (self.ended - self.began)


def spans_of(result: ProcessResult) -> list[Span]:
    """The spans in the order of their ends. Raises `LookupError` if no process reported any."""
    since = {process.name: process.made for process in result.processes}
    found = []
    for event in sorted(result.events, key=lambda event: event.at):
        if isinstance(done := event.fields.get("done"), str):
            found.append(Span(event.process, done, since.get(event.process, 0.0), event.at))
            since[event.process] = event.at
    if not found:
        raise LookupError('got no event with `done`, expected some: emit(done="what I have just done")')
    return found


@takes_prediction
def spans(result: ProcessResult) -> Picture:
    """One row for each process that reported activities, with a block for each span."""
    found = spans_of(result)
    rows = [process.name for process in result.processes if any(span.process == process.name for span in found)]
    kinds = list(dict.fromkeys(span.done for span in found))
    figure = Figure(figsize=(9.5, 1.9 + 0.62 * len(rows) + 0.22 * (len(kinds) // 2)), layout="constrained")
    axes = figure.subplots()
    labelled: set[str] = set()
    for span in found:
        _draw(axes, span, rows.index(span.process), kinds.index(span.done), "" if span.done in labelled else span.done)
        labelled.add(span.done)
    _lines_from_parents(axes, result, rows)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("milliseconds since the cell began", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22 - 0.1 / len(rows)), ncols=2)
    quiet(axes)
    finding = _finding(found, rows)
    title(axes, finding)
    words = "; ".join(f"{span.process}: {span.done}, {span.ms:.0f} ms" for span in found)
    return Picture(figure, f"Spans. {finding}. {words}.")


def _draw(axes: Axes, span: Span, row: int, kind: int, label: str) -> None:
    axes.barh(row, span.ms, left=1000 * span.began, height=0.5, color=colour_of(kind), alpha=0.8, edgecolor=INK,
              hatch=HATCHES[kind % len(HATCHES)], linewidth=0.8, label=label, zorder=2)  # fmt: skip
    axes.text(1000 * span.began + span.ms / 2, row - 0.27, f"{span.ms:.0f}" if span.ms >= 1 else "<1", fontsize=8,
              ha="center", va="bottom", color=INK)  # fmt: skip


def _lines_from_parents(axes: Axes, result: ProcessResult, rows: list[str]) -> None:
    for process in result.processes:
        if process.name in rows and process.parent in rows:
            at = 1000 * process.made
            axes.plot([at, at], [rows.index(process.parent), rows.index(process.name)], color=FAINT, linewidth=1.2)


def _finding(found: list[Span], rows: list[str]) -> str:
    """The finding about the last process, because that is the one that was started."""
    mine = [span for span in found if span.process == rows[-1]]
    most, whole = max(mine, key=lambda span: span.ms), sum(span.ms for span in mine)
    return f"{rows[-1]} spends {most.ms / whole:.0%} of its time on “{most.done}” ({most.ms:.0f} of {whole:.0f} ms)"
