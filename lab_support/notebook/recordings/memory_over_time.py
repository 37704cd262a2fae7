"""Draws memory in use over time, as steps, with events marked: whose end gives it back? It measures nothing.

Taught in: 05_why_does_cuda_break_after_fork
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.figures.plots import FAINT, INK, Picture, quiet, title
from lab_support.notebook.page.gate import takes_prediction
from lab_support.notebook.recordings.cuda_findings import end_of_memory, some

_BLUE, _MB = "#0072b2", 1e6
Points = Sequence[tuple[float, float]]
"""Seconds, and bytes in use from then on."""


@takes_prediction
def memory_over_time(points: Points, *, marks: Mapping[str, float], before: float, unit: str, finding: str) -> Picture:
    """A line of steps from the first point to the last, a mark at the second of each event, and the bytes `before`.

    unit: the quantity, such as "memory in use on the GPU". Raises `ValueError` without points.
    """
    if not points:
        raise ValueError("memory_over_time: got no points, expected at least one")
    figure = Figure(figsize=(8.6, 3.2), layout="constrained")
    axes = figure.subplots()
    seconds, used = [each[0] for each in points], [each[1] / _MB for each in points]
    axes.step(seconds, used, where="post", color=_BLUE, linewidth=2)
    axes.plot(seconds[-1:], used[-1:], "o", color=_BLUE, markersize=5)
    axes.fill_between(seconds, used, step="post", color=_BLUE, alpha=0.15, linewidth=0)
    axes.axhline(before / _MB, color=FAINT, linestyle=":", linewidth=1.2)
    axes.set_ylim(0, 1.3 * max(used) or 1)
    width = max(seconds) - min(seconds)
    axes.set_xlim(min(seconds) - 0.04 * width, max(seconds) + 0.14 * width)
    axes.text(max(seconds) + 0.13 * width, before / _MB, f"before: {before / _MB:.0f}", fontsize=8.5, color=INK,
              ha="right", va="bottom")  # fmt: skip
    for words, at in marks.items():
        axes.axvline(at, color=INK, linestyle="--", linewidth=1)
        left = at > min(seconds) + 0.7 * width
        axes.text(at, 1.27 * max(used), f"{words} " if left else f" {words}", fontsize=9.5, color=INK, va="top",
                  ha="right" if left else "left")  # fmt: skip
    axes.set_xlabel("seconds since kill -9", fontsize=9)
    axes.set_ylabel(f"{unit}, MB", fontsize=9)
    quiet(axes)
    title(axes, finding)
    return Picture(figure, f"{finding}. {_in_words(points, marks, before, unit)}")


def _in_words(points: Points, marks: Mapping[str, float], before: float, unit: str) -> str:
    """The memory in use at each mark and at the end."""
    at = [f"{words}: {_used_at(points, second) / _MB:.0f}" for words, second in marks.items()]
    return f"{unit}, MB: before {before / _MB:.0f}; " + "; ".join([*at, f"at the end: {points[-1][1] / _MB:.0f}"]) + "."


def _used_at(points: Points, second: float) -> float:
    return next((used for at, used in reversed(points) if at <= second), points[0][1])


FINDINGS = {
    "a": "The memory of a killed process was free at once, though its child lived",
    "b": "The memory of a killed process stays taken until its idle child is gone",
    "c": "The memory of a killed process stays taken even when its child is gone",
}


def kept_on_the_gpu(run: Recording) -> Picture:
    """idle_forked_child: memory in use on the GPU, while the parent is killed, and then its idle child ends."""
    holds, killed, gone = (
        some(run.of(what), run)[0] for what in ("parent holds", "parent killed", "child gone as well")
    )
    second = killed["at"] - holds["at"]
    points = [(0.0, holds["gpu"]["used"])]
    points += [(each["ms"] / 1000, each["used"]) for each in killed["watched"]]
    points += [(second + each["ms"] / 1000, each["used"]) for each in gone["watched"]]
    return memory_over_time(  # type: ignore[no-any-return]
        points, marks={"parent: kill -9": 0.0, "idle child: ends": second}, before=holds["before"],
        unit="memory in use on the GPU", finding=FINDINGS[end_of_memory(run)],
    )  # fmt: skip
