"""`lab.shares`: the number of processes woken, and each one's share, with the reader's prediction laid over them.

It takes measurements and returns a picture; it never measures. If several runs are given, it shows their spread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.notebook.canvas.plots import FAINT, HATCHES, INK, Picture, quiet, title
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.page.gate import Gated, Right, supported, with_note
from lab_support.notebook.page.predictions import Comparison, PredictionError, Question, question

Counts = Mapping[str, int]
Run = ProcessResult | Counts
CHOSEN = "#d55e00"
_LABEL = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One or several runs. counts: one mapping by name for each run. wakeups: per connection; () if not counted."""

    counts: tuple[dict[str, int], ...]
    wakeups: tuple[float, ...]

    @property
    def names(self) -> list[str]:
        return sorted({name for counts in self.counts for name in counts}, key=_natural)

    def shares_of(self, name: str) -> list[float]:
        """The share of the whole that went to `name`, in each run."""
        return [counts.get(name, 0) / max(1, sum(counts.values())) for counts in self.counts]

    def share(self, name: str) -> float:
        return mean(self.shares_of(name))


def _natural(name: str) -> tuple[str, int]:
    digits = name[len(name.rstrip("0123456789")) :]
    return name[: len(name) - len(digits)], int(digits or 0)


def shares(
    runs: Run | Sequence[Run],
    *,
    prediction: str = "",
    right: Right = None,
    values: Mapping[str, float] | None = None,
    what: str = "connections",
) -> Picture | Gated:
    """Each process's share; for runs of `script.listeners`, also the wake-ups per connection.

    runs: one run or repeats: results of `%%python_process` cells that emitted `listeners(…)`, or counts by name.
    prediction: its number; the figure waits for it. right: the option that the measurement supports, or a function
    that finds it from `runs`. values: the wake-ups that each option means, by letter; by default the numbers at the
    start of the options. what: the things that are counted. Raises `LookupError` for a run without counts,
    `PredictionError` if the sketch's bars do not match the processes.
    """
    measured = _measured(runs)
    if not prediction:
        return draw(measured, what)
    asked = question(prediction)
    marks = dict(values if values is not None else asked.values if measured.wakeups and right is None else {})
    letter = supported(right, runs) if right is not None else _nearest(marks, measured.wakeups)
    by_name = _bars(asked, measured)
    return Gated(
        prediction,
        lambda comparison: with_note(draw(measured, what, comparison, marks), comparison.words),
        letter,
        [share for _, share in by_name] if asked.sketch else (),
    )


def _measured(runs: Run | Sequence[Run]) -> Measured:
    each = [runs] if isinstance(runs, ProcessResult | Mapping) else list(runs)
    if not each:
        raise LookupError("got no runs, expected at least one: a cell's result, or counts by name")
    wakeups = tuple(run.wakeups_per_connection for run in each if isinstance(run, ProcessResult))
    return Measured(tuple(_counts(run) for run in each), wakeups)


def _counts(run: Run) -> dict[str, int]:
    if not isinstance(run, ProcessResult):
        return dict(run)
    names = {process.identity.pid: process.name for process in run.processes}
    return {names.get(row["pid"], f"pid {row['pid']}"): row["accepted"] for row in run.measured["processes"]}


def _nearest(values: Mapping[str, float], wakeups: Sequence[float]) -> str:
    """The option whose value is nearest to the measurement; "" if none is near."""
    if not values or not wakeups:
        return ""
    found = mean(wakeups)
    letter = min(values, key=lambda each: abs(values[each] - found))
    return letter if abs(values[letter] - found) <= max(0.5, 0.35 * values[letter]) else ""


def _bars(asked: Question, measured: Measured) -> list[tuple[str, float]]:
    """Labels and mean shares: by name if the sketch has exactly these names, else by size, largest first."""
    by_name = [(name, measured.share(name)) for name in measured.names]
    if not asked.sketch:
        return by_name
    if len(asked.sketch) != len(by_name):
        expected = f"{len(asked.sketch)}: {', '.join(asked.sketch)}"
        raise PredictionError(f"got {len(by_name)} processes ({', '.join(measured.names)}), expected {expected}")
    if set(asked.sketch) == set(measured.names):
        return [(name, measured.share(name)) for name in asked.sketch]
    sizes = sorted((share for _, share in by_name), reverse=True)
    return list(zip(asked.sketch, sizes, strict=True))


# ---- drawing ---------------------------------------------------------------------------------------------------------


def draw(
    measured: Measured, what: str, comparison: Comparison | None = None, marks: Mapping[str, float] | None = None
) -> Picture:
    """The figure; a comparison adds the prediction to it."""
    sketched = comparison is not None and bool(comparison.question.sketch)
    as_rounds = len(measured.counts) > 1 and not measured.wakeups and not sketched
    if measured.wakeups:
        figure = Figure(figsize=(9.5, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        findings = [_draw_wakeups(left, measured, comparison, marks or {})]
    else:
        figure = Figure(figsize=(7.0, 1.3 + 0.42 * len(measured.counts) if as_rounds else 3.6), layout="constrained")
        right, findings = figure.subplots(), []
    findings.append(_draw_rounds(right, measured, what) if as_rounds else _draw_bars(right, measured, what, comparison))
    return Picture(figure, f"{'. '.join(findings)}. {_in_words(measured, what)}")


def _draw_wakeups(axes: Axes, measured: Measured, comparison: Comparison | None, marks: Mapping[str, float]) -> str:
    found = mean(measured.wakeups)
    axes.bar(0, found, color=colour_of(0), edgecolor=INK, width=0.5, alpha=0.85)
    _dots(axes, 0, measured.wakeups)
    axes.text(0, 0.1 * found, f"{found:.2f}", ha="center", fontsize=12, color=INK, zorder=8, bbox=_LABEL)
    for letter, value in marks.items():
        _mark(axes, letter, value, comparison is not None and comparison.answer == letter)
    axes.set_xlim(-0.6, 1.25 if marks else 0.6)
    top = max([*measured.wakeups, *marks.values(), 1])
    axes.set_ylim(-0.06 * top if marks else 0, 1.15 * top)
    axes.set_xticks([0], [f"measured{_times(measured)}"])
    axes.set_ylabel("wake-ups per connection", fontsize=9)
    quiet(axes)
    finding = _wakeups_finding(found, len(measured.names))
    title(axes, finding)
    return finding


def _mark(axes: Axes, letter: str, value: float, chosen: bool) -> None:
    """A line at the option's value; the reader's own is bold and labelled."""
    words, colour = (f"{letter}: your prediction", CHOSEN) if chosen else (letter, FAINT)
    axes.plot(
        [-0.42, 0.42], [value, value], "-" if chosen else ":", color=colour, linewidth=2.6 if chosen else 1.3, zorder=4
    )
    axes.plot(0.42, value, ">" if chosen else "|", color=colour, markersize=8 if chosen else 5, zorder=5)
    weight = "bold" if chosen else "normal"
    axes.text(0.5, value, words, va="center", fontsize=9, color=colour if chosen else INK, weight=weight)


def _wakeups_finding(found: float, count: int) -> str:
    if 0.8 * count <= found <= 1.2 * count and count > 1:
        return f"Every connection woke all {_number(count)} processes"
    if 0.8 <= found <= 1.2:
        return f"Every connection woke one of {_number(count)}"
    return f"A connection took {found:.1f} wake-ups of {_number(count)}"


def _number(count: int) -> str:
    return ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")[count] if count < 9 else str(count)


def _times(measured: Measured) -> str:
    return f", mean of {len(measured.counts)} runs" if len(measured.counts) > 1 else ""


def _number_of(measured: Measured) -> str:
    """The number of things counted in one run, or the number of runs."""
    return _times(measured) or f" (n = {sum(measured.counts[0].values())})"


def _dots(axes: Axes, at: float, values: Sequence[float]) -> None:
    """Each repeat as a dot, and a line from the least to the most."""
    if len(values) > 1:
        axes.plot([at, at], [min(values), max(values)], color=INK, linewidth=1.5, zorder=5)
        axes.plot([at] * len(values), values, "o", color="white", markeredgecolor=INK, markersize=5, zorder=6)


def _draw_bars(axes: Axes, measured: Measured, what: str, comparison: Comparison | None) -> str:
    asked = comparison.question if comparison else Question("", "")
    bars, answer = _bars(asked, measured), _answer(comparison)
    highest = 0.0
    for index, (name, share) in enumerate(bars):
        axes.bar(index, 100 * share, color=colour_of(index), hatch=HATCHES[index % len(HATCHES)], edgecolor=INK,
                 width=0.6, alpha=0.85)  # fmt: skip
        spread = measured.shares_of(name) if name in measured.names else []
        _dots(axes, index, [100 * part for part in spread])
        count = f"\n{measured.counts[0][name]}" if len(spread) == 1 and name in measured.counts[0] else ""
        top = 100 * max([share, *answer[index : index + 1], *spread])
        axes.text(index, top + 1, f"{share:.0%}{count}", ha="center", va="bottom", fontsize=10, color=INK)
        highest = max(highest, top)
    _outline(axes, answer)
    axes.set_xticks(range(len(bars)), [name for name, _ in bars])
    axes.set_xlim(-0.7, len(bars) - 0.3)
    axes.set_ylim(0, 1.25 * highest)
    axes.set_ylabel(f"% of the {what}{_number_of(measured)}", fontsize=9)
    quiet(axes)
    finding = _bars_finding(bars, measured, what)
    title(axes, finding)
    return finding


def _answer(comparison: Comparison | None) -> tuple[float, ...]:
    answer = comparison.answer if comparison else None
    return answer if isinstance(answer, tuple) else ()


def _outline(axes: Axes, answer: Sequence[float]) -> None:
    for index, part in enumerate(answer):
        axes.bar(index, 100 * part, width=0.78, facecolor="none", edgecolor=CHOSEN, linewidth=2.2, linestyle="--",
                 zorder=7, label="" if index else "your prediction")  # fmt: skip
    if answer:
        axes.legend(fontsize=9, frameon=False, loc="upper right")


def _bars_finding(bars: Sequence[tuple[str, float]], measured: Measured, what: str) -> str:
    name, most = max(bars, key=lambda bar: bar[1])
    least = min(share for _, share in bars)
    if most < 1.2 / len(bars) and len(bars) > 1:
        return f"The {what} were shared evenly: {least:.0%} to {most:.0%}"
    if len(measured.counts) == 1 and name in measured.names:
        return f"{name} took {measured.counts[0][name]} of {sum(measured.counts[0].values())} {what}"
    return f"{name} took {most:.0%} of the {what}"


def _draw_rounds(axes: Axes, measured: Measured, what: str) -> str:
    for index, name in enumerate(measured.names):
        before = [sum(counts.get(each, 0) for each in measured.names[:index]) for counts in measured.counts]
        mine = [counts.get(name, 0) for counts in measured.counts]
        axes.barh(range(len(mine)), mine, left=before, color=colour_of(index), hatch=HATCHES[index % len(HATCHES)],
                  edgecolor=INK, height=0.62, alpha=0.85, label=name)  # fmt: skip
        for row, (left, count) in enumerate(zip(before, mine, strict=True)):
            if count:
                axes.text(left + count / 2, row, str(count), ha="center", va="center", fontsize=9, color=INK,
                          bbox=_LABEL)  # fmt: skip
    axes.set_yticks(range(len(measured.counts)), [f"round {index + 1}" for index in range(len(measured.counts))])
    axes.invert_yaxis()
    axes.set_xlabel(what, fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    quiet(axes)
    finding = _rounds_finding(measured)
    title(axes, finding)
    return finding


def _rounds_finding(measured: Measured) -> str:
    """The finding about the process whose share changed most from round to round."""
    ranges = {name: [counts.get(name, 0) for counts in measured.counts] for name in measured.names}
    name, counts = max(ranges.items(), key=lambda each: max(each[1]) - min(each[1]))
    wholes = {sum(round_.values()) for round_ in measured.counts}
    whole = f" of {wholes.pop()}" if len(wholes) == 1 else ""
    if min(counts) == max(counts):
        return f"{name} had {counts[0]}{whole} in each of {len(counts)} rounds"
    return f"{name} had between {min(counts)} and {max(counts)}{whole}, in {len(counts)} rounds"


def _in_words(measured: Measured, what: str) -> str:
    wakeups = ", ".join(f"{value:.2f}" for value in measured.wakeups)
    head = f"Wake-ups per connection: {wakeups}. " if wakeups else ""
    rounds = "; ".join(
        ", ".join(f"{name} {counts.get(name, 0)}" for name in measured.names) for counts in measured.counts
    )
    return f"{head}Number of {what}: {rounds}."


def sketch_picture(asked: Question, answer: Any) -> Picture:
    """A reader's sketch in its present state, for front ends without widgets."""
    figure = Figure(figsize=(1.1 * len(asked.sketch) + 1.2, 2.2), layout="constrained")
    axes = figure.subplots()
    for index, part in enumerate(answer or ()):
        axes.bar(index, 100 * part, width=0.7, facecolor="none", edgecolor=CHOSEN, linewidth=2.2, linestyle="--")
    axes.set_xticks(range(len(asked.sketch)), asked.sketch)
    axes.set_xlim(-0.7, len(asked.sketch) - 0.3)
    axes.set_ylim(0, 100)
    axes.set_ylabel("%", fontsize=9)
    quiet(axes)
    title(axes, f"Predict {asked.number}: {asked.words}")
    return Picture(
        figure, f"Predict {asked.number}: {asked.words}. {asked.in_words(answer) if answer else 'No bars yet.'}"
    )
