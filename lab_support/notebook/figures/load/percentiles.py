"""Latencies by percentile, of the same time as several observers saw it. It measures nothing.

Taught in: 08a_which_numbers_are_true
"""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.instruments.load.latency import distribution, percentile
from lab_support.notebook.canvas.plots import FAINT, INK, Picture, quiet, title

_LOOKS = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#009e73", "-.", "^"), ("#cc79a7", ":", "D"))
_TICKS = (0, 50, 90, 99, 99.9)
_MARKED = (50, 99)
_LEAST = 1e-4  # seconds


def percentiles(seen: Mapping[str, Sequence[float]], *, finding: str, seconds: float = 0.0, words: str = "") -> Picture:
    """A curve for each observer: the seconds that so many per cent of its requests took at most, both logarithmic.

    seconds: a length to compare with, as a dashed line that is called `words`; 0 for none. Raises `ValueError` if there
    is nothing to draw.
    """
    if not any(seen.values()):
        raise ValueError("percentiles: got no latency, expected at least one")
    figure = Figure(figsize=(8.6, 4.0), layout="constrained")
    axes = figure.subplots()
    for (name, values), look in zip(seen.items(), _LOOKS, strict=False):
        _curve(axes, f"{name} (n = {len(values):,})", sorted(values), *look)
    if seconds:
        axes.axhline(1000 * seconds, color=INK, linestyle=(0, (6, 3)), linewidth=1.1)
        axes.text(0.02, 1000 * seconds, words, fontsize=9, color=INK, va="bottom")
    axes.axvline(_place(99), color=FAINT, linewidth=1.0)
    _axes(axes)
    title(axes, finding)
    return Picture(figure, f"{finding}. {' '.join(_in_words(name, values) for name, values in seen.items() if values)}")


def _place(percent: float) -> float:
    """A tenth of what is left is one to the right."""
    return -math.log10(max(1 - percent / 100, 1e-9))


def _curve(axes: Axes, name: str, ordered: Sequence[float], colour: str, style: str, marker: str) -> None:
    shown = [max(1000 * value, 1000 * _LEAST) for value in ordered]
    places = [_place(100 * (rank + 0.5) / len(ordered)) for rank in range(len(ordered))]
    axes.plot(places, shown, style, color=colour, linewidth=2, label=name)
    marks = [max(percentile(ordered, percent), _LEAST) * 1000 for percent in _MARKED]
    axes.plot([_place(percent) for percent in _MARKED], marks, linestyle="", marker=marker, color=colour,
              markeredgecolor=INK, markersize=7)  # fmt: skip


def _axes(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xticks([_place(percent) for percent in _TICKS], [f"{percent:g} %" for percent in _TICKS])
    axes.set_xlim(0, _place(99.9))
    axes.set_ylabel("milliseconds (logarithmic)", fontsize=9)
    axes.set_xlabel("so many of its requests took at most this long; markers: median and 99 %", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    quiet(axes)


def _in_words(name: str, values: Sequence[float]) -> str:
    told = distribution(values)
    return f"{name}: median {1000 * told.p50:.0f} ms, 99 % within {1000 * told.p99:.0f} ms."
