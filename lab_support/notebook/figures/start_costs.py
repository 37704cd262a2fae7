"""`lab.start_costs`: the cost of children by each start method, measured here and recorded. It measures nothing.

The samples are those of `lab_support.experiments.started_child.compare`: from a cell's events, or from `children` in
a recording.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import INK, Picture, quiet, title
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.page.gate import takes_prediction

_MB = 1e6
_LOOKS = {
    "spawn": ("#d55e00", "s", "-"),
    "forkserver": ("#cc79a7", "^", "--"),
    "forkserver, preloaded": ("#009e73", "D", "-."),
    "fork": ("#0072b2", "o", ":"),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """All samples of one module, "" for bare children. Methods have the names in `started_child.METHODS`."""

    samples: tuple[dict[str, Any], ...]

    @property
    def methods(self) -> list[str]:
        """The methods that were measured, the slowest first."""
        found = {sample["method"] for sample in self.samples if not sample["first"]}
        return [method for method in _LOOKS if method in found]

    def counts(self, method: str) -> list[int]:
        return sorted({each["count"] for each in self.samples if each["method"] == method and not each["first"]})

    def all_ms(self, method: str, count: int) -> list[float]:
        """Milliseconds until the last of `count` children was ready, for each repeat."""
        return [sample["ms"] for sample in self._of(method, count)]

    def ms(self, method: str, count: int) -> float:
        """The median of `all_ms`. Raises `LookupError` if it was not measured."""
        return median(self._found(self.all_ms(method, count), method, count))

    def once_ms(self, method: str) -> float:
        """The one-time cost in ms: the very first start, with the server's or the parent's own imports."""
        first = [sample["ms"] for sample in self.samples if sample["method"] == method and sample["first"]]
        return median(self._found(first, method, 1))

    def mb(self, method: str, count: int, kind: str = "uss") -> float:
        """Memory of the median child of `count`, in MB: `uss` is private memory, `pss` adds its share of shared memory,
        `rss` adds all of the shared memory. NaN if the kernel did not report it; see `no_memory`."""
        if self.no_memory:
            return math.nan
        sizes = [size for sample in self._of(method, count) for size in sample[kind]]
        return median(self._found(sizes, method, count)) / _MB

    @property
    def no_memory(self) -> str:
        """The reason why memory is unknown, for a claim that can't be tested then; "" if it is known."""
        told = any(sample["uss"] for sample in self.samples)
        return "" if told else "this kernel does not report private memory (/proc/PID/smaps_rollup)"

    def _of(self, method: str, count: int) -> list[dict[str, Any]]:
        wanted = (method, count, False)
        return [each for each in self.samples if (each["method"], each["count"], each["first"]) == wanted]

    def _found(self, values: list[float], method: str, count: int) -> list[float]:
        if not values:
            there = ", ".join(f"{each} × {self.counts(each)}" for each in self.methods)
            raise LookupError(f"got nothing measured for {count} × {method}, expected one of: {there}")
        return values

    @takes_prediction
    def figure(self) -> Picture:
        """Time, on logarithmic axes, and private memory over the number of children; each repeat is a dot."""
        return _figure(self)


def start_costs(measured: ProcessResult | Recording, module: str = "") -> Costs:
    """The samples in a cell's result, or in a recording, whose children needed `module`. Raises `LookupError`."""
    if isinstance(measured, Recording):
        fields: Sequence[dict[str, Any]] = measured.of("children")
    else:
        fields = [event.fields for event in measured.events if "ms_to_code" in event.fields]
    # The first start by spawn or forkserver is measured bare, because its one-time cost does not depend on the module.
    methods = {each["method"] for each in fields if each["module"] == module and not each["first"]}
    found = [each for each in fields if each["method"] in methods and (each["module"] == module or each["first"])]
    if not found:
        raise LookupError(f"got no samples of children with module {module!r}, expected some: emit(sample)")
    own_first = {each["method"] for each in found if each["first"] and each["module"] == module}
    return Costs(tuple(e for e in found if e["module"] == module or e["method"] not in own_first))


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _figure(costs: Costs) -> Picture:
    figure = Figure(figsize=(9.8, 4.4), layout=ConstrainedLayoutEngine(wspace=0.08))
    left, right = figure.subplots(1, 2)
    for method in costs.methods:
        _lines(left, right, costs, method)
    counts = sorted({count for method in costs.methods for count in costs.counts(method)})
    _axes(left, counts, "until all are ready (logarithmic)")
    _logarithmic(left)
    _axes(right, counts, "private memory (USS) of one child, MB")
    right.set_ylim(0, None if costs.no_memory else 1.2 * max(costs.mb(method, counts[-1]) for method in costs.methods))
    time, memory = _findings(costs, counts[-1])
    title(left, time)
    title(right, memory)
    left.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.14), ncols=2)
    return Picture(figure, f"Two charts. {time}. {memory}. {_in_words(costs)}")


def _lines(left: Axes, right: Axes, costs: Costs, method: str) -> None:
    colour, marker, style = _LOOKS[method]
    counts = costs.counts(method)
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 7, "linewidth": 1.8}
    left.plot(counts, [costs.ms(method, count) for count in counts], style, label=method, **look)
    for count in counts:
        repeats = costs.all_ms(method, count)
        left.plot([count] * len(repeats), repeats, ".", color="white", markeredgecolor=colour, markersize=7, zorder=5)
    if not costs.no_memory:
        right.plot(counts, [costs.mb(method, count) for count in counts], style, **look)


def _axes(axes: Axes, counts: list[int], label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("children started one after the other, without waiting", fontsize=9)
    axes.set_ylabel(label, fontsize=9, color=INK)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    quiet(axes)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_time))


def _time(ms: float, _: int = 0) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _findings(costs: Costs, most: int) -> tuple[str, str]:
    quickest, slowest = costs.methods[-1], costs.methods[0]
    ratio = costs.ms(slowest, most) / costs.ms(quickest, most)
    time = f"{most} by {slowest} take {ratio:.0f} times as long as by {quickest}"
    if costs.no_memory:
        return time, "This kernel does not report private memory"
    small, large = costs.mb(quickest, most), costs.mb(slowest, most)
    return time, f"A child by {slowest} has {large:.0f} MB of its own, by {quickest} {small:.0f}"


def _in_words(costs: Costs) -> str:
    parts = []
    for method in costs.methods:
        times = ", ".join(f"{count}: {costs.ms(method, count):.0f} ms" for count in costs.counts(method))
        parts.append(f"{method}, by number of children, {times}")
    return "; ".join(parts) + "."
