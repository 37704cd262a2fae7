"""Draws memory in use over time, as steps, with events marked, and below them who has it: whose end gives it back? It
measures nothing.

Taught in: 05_why_does_cuda_break_after_fork
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet
from lab_support.notebook.page.gate import takes_prediction
from lab_support.notebook.recordings.cuda_findings import end_of_memory, some

_MB = 1e6
_LOOKS = (("#0072b2", "-"), ("#d55e00", "--"))
Points = Sequence[tuple[float, float]]
"""Seconds, and bytes in use from then on."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. lines: by name, points of steps. marks: the second of each event. before: bytes before all of it.

    unit: the quantity, such as "memory in use on the GPU". lanes: by name, spans below the plot, each from a second to
    another with words. heading: the plot's own, such as the machine. aside: words at the axis of time; with them,
    seconds before 0 get no numbers.
    """

    lines: Mapping[str, Points]
    marks: Mapping[str, float]
    before: float
    unit: str
    lanes: Mapping[str, Sequence[tuple[float, float, str]]] = field(default_factory=dict)
    heading: str = ""
    aside: str = ""

    @property
    def seconds(self) -> list[float]:
        return [at for points in self.lines.values() for at, _ in points]

    @property
    def most(self) -> float:
        return max(used for points in self.lines.values() for _, used in points)

    @property
    def words(self) -> str:
        """The memory in use at each mark and at the end of each line, and the lanes."""
        parts = [f"before {self.before / _MB:.0f}"]
        for name, points in self.lines.items():
            told = [(words, _used_at(points, second)) for words, second in self.marks.items()]
            told.append(("at the end", points[-1][1]))
            label = f"{name}, " if name else ""
            parts += [f"{label}{words}: {used / _MB:.0f}" for words, used in told]
        lanes = [f"{name}: {', then '.join(span[2] for span in spans)}" for name, spans in self.lanes.items()]
        heading = f"{self.heading}. " if self.heading else ""
        return ". ".join([f"{heading}{self.unit}, MB: {'; '.join(parts)}", *lanes]) + "."


@takes_prediction
def memory_over_time(points: Points, *, marks: Mapping[str, float], before: float, unit: str, finding: str) -> Picture:
    """A line of steps from the first point to the last, a mark at the second of each event, and the bytes `before`.

    unit: the quantity, such as "memory in use on the GPU". Raises `ValueError` without points.
    """
    if not points:
        raise ValueError("memory_over_time: got no points, expected at least one")
    return drawn(finding, Panel({"": points}, marks, before, unit))


def drawn(finding: str, *panels: Panel) -> Picture:
    """The panels side by side, below their common finding."""
    lanes = max(len(panel.lanes) for panel in panels)
    figure = Figure(figsize=(8.6 if len(panels) == 1 else 11.4, 3.2 + 0.45 * lanes), layout="constrained")
    figure.suptitle(finding, x=0.01, ha="left", fontsize=12, color=INK)
    grid = figure.subplots(2, len(panels), squeeze=False, sharex="col", height_ratios=(6, max(lanes, 0.01)))
    for column, panel in enumerate(panels):
        _plot(grid[0][column], panel)
        _lanes(grid[1][column], panel)
        bottom = grid[1 if panel.lanes else 0][column]
        if panel.aside:
            bottom.xaxis.set_major_formatter(lambda second, _: "" if second < 0 else f"{second:g}")
        bottom.set_xlabel(f"seconds since kill -9{panel.aside}", fontsize=9)
    return Picture(figure, " ".join([f"{finding}.", *(panel.words for panel in panels)]))


def _plot(axes: Axes, panel: Panel) -> None:
    first, last = min(panel.seconds), max(panel.seconds)
    width, top = last - first, panel.most / _MB or 1
    for (name, points), (colour, style) in zip(panel.lines.items(), _LOOKS, strict=False):
        seconds, used = [each[0] for each in points], [each[1] / _MB for each in points]
        axes.step(seconds, used, where="post", color=colour, linewidth=2, linestyle=style, label=name)
        axes.plot(seconds[-1:], used[-1:], "o", color=colour, markersize=5)
        if style == "-":
            axes.fill_between(seconds, used, step="post", color=colour, alpha=0.15, linewidth=0)
    axes.axhline(panel.before / _MB, color=FAINT, linestyle=":", linewidth=1.2)
    axes.set_ylim(0, 1.45 * top)
    axes.set_xlim(first - 0.04 * width, last + 0.24 * width)
    for place, (words, at) in enumerate(panel.marks.items()):
        axes.axvline(at, color=INK, linestyle="--", linewidth=1)
        left = at > first + 0.7 * width
        height = (1.42 - 0.14 * place) * top
        axes.text(at, height, f"{words} " if left else f" {words}", fontsize=9, color=INK, va="top",
                  ha="right" if left else "left")  # fmt: skip
    axes.text(last + 0.23 * width, panel.before / _MB, f"before: {panel.before / _MB:.0f}", fontsize=8.5, color=INK,
              ha="right", va="bottom")  # fmt: skip
    axes.set_ylabel(f"{panel.unit}, MB", fontsize=9)
    axes.set_title(panel.heading, loc="left", fontsize=9.5, color=INK)
    if len(panel.lines) > 1:
        axes.legend(fontsize=8.5, frameon=False, loc="center right")
    quiet(axes)


def _lanes(axes: Axes, panel: Panel) -> None:
    """A row for each lane, its spans as bars with their words in them."""
    axes.set_axis_off() if not panel.lanes else quiet(axes)
    axes.set_yticks(range(len(panel.lanes)), list(panel.lanes), fontsize=8.5)
    axes.set_ylim(len(panel.lanes) - 0.4, -0.6)
    for row, spans in enumerate(panel.lanes.values()):
        for start, end, words in spans:
            colour = "#ffffff" if words.startswith("no") else "#d9d9d9"
            axes.barh(row, end - start, left=start, height=0.75, linewidth=0.8, edgecolor=FAINT, facecolor=colour)
            axes.text((start + end) / 2, row, words, fontsize=8, color=INK, ha="center", va="center")


def _used_at(points: Points, second: float) -> float:
    return next((used for at, used in reversed(points) if at <= second), points[0][1])


# ---- a killed owner, recorded on a GPU and measured here -------------------------------------------------------------

FINDINGS = {
    "a": "The memory of a killed process stays taken until its idle child has ended",
    "b": "The memory of a killed process was free at once, though its child lived",
    "c": "Some memory of a killed process stays taken while its idle child lives",
    "d": "The memory of a killed process stays taken even when its child has ended",
}
_BEFORE = (-1.6, -0.8)
"""Places of the two readings before the kill, whose times are not those of the watch."""


def kept_on_the_gpu(run: Recording) -> Picture:
    """idle_forked_child: memory in use on the GPU, while the parent is killed, and then its idle child ends."""
    return drawn(FINDINGS[end_of_memory(run)], on_the_gpu(run))


def on_the_gpu(run: Recording) -> Panel:
    """idle_forked_child as a panel, with a lane for the processes that NVML named."""
    holds, killed, gone = (
        some(run.of(what), run)[0] for what in ("parent holds", "parent killed", "child gone as well")
    )
    second = killed["at"] - holds["at"]
    points = [(_BEFORE[0], holds["before"]), (_BEFORE[1], holds["gpu"]["used"])]
    points += [(each["ms"] / 1000, each["used"]) for each in killed["watched"]]
    points += [(second + each["ms"] / 1000, each["used"]) for each in gone["watched"]]
    return Panel(
        {"": points},
        {"parent: kill -9": 0.0, "idle child: ends": second},
        holds["before"],
        "memory in use on the GPU",
        {"NVML names": [(_BEFORE[1], 0.0, named(holds)), (0.0, points[-1][0], "not asked for names")]},
        aside="; to the left of 0 two readings, not to scale",
    )


def named(holds: Mapping[str, Any]) -> str:
    """The processes that NVML named while the parent and its child lived; a lone one is the parent."""
    count = len(holds["gpu"]["processes"])
    return {0: "nobody", 1: "parent"}.get(count, f"{count} processes")


def measured_here(runs: Mapping[str, Mapping[str, Any]]) -> Panel:
    """By the child's name, `killed_owner` results with one child each, as a panel with a lane for each."""
    lines, lanes = {}, {}
    marks: dict[str, float] = {}
    for name, told in runs.items():
        killed = told["steps"][1]["at"]
        lines[name] = [(at - killed, used) for step in told["steps"] for at, used in step["seen"]]
        starts = [step["at"] - killed for step in told["steps"]]
        marks = marks or {"owner: kill -9": 0.0, "child: ends": starts[2]}
        ends = pairwise([*starts, lines[name][-1][0]])
        lanes[f"{name}: held by"] = _joined(
            [(*span, _holders(step)) for span, step in zip(ends, told["steps"], strict=True)]
        )
    before = next(iter(runs.values()))["before"]
    return Panel(lines, marks, before, "shared memory in use", lanes, "Measured on this machine, without a GPU")


def _joined(spans: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The spans, with neighbours of the same words made one."""
    found: list[tuple[float, float, str]] = []
    for start, end, words in spans:
        if found and found[-1][2] == words:
            start = found.pop()[0]
        found.append((start, end, words))
    return found


def _holders(step: Mapping[str, Any]) -> str:
    """The processes that hold the memory's descriptor during a step, in words."""
    holders = ["owner"] * (step["what"] == "owner lives") + ["child"] * bool(step["descriptor"])
    return " + ".join(holders) or "nobody"
