"""Draws a runtime in three layers, and the part of each that a forked child gets. It measures nothing.

Taught in: 05_why_does_cuda_break_after_fork
"""

from collections.abc import Mapping

from matplotlib.axes import Axes

from lab_support.notebook.canvas import drawing
from lab_support.notebook.canvas.plots import FAINT, INK, Picture

_LAYERS = (
    # name, colour, the parent's part, the child's part after the fork: first as known from 01, then as found
    ("PyTorch", "#56b4e9", "a flag in memory, not set", "?", "a handler sets it in the child"),
    ("the libraries below it", "#e69f00", "memory: started, handles, locks", "copied as it is", "copied as it is"),
    ("", "#e69f00", "threads that do the work", "?", "not there"),
    ("kernel and device", "#009e73", "device files, by descriptor", "?", "the same open file descriptions"),
    ("", "#009e73", "the device's memory, mapped", "?", "as the driver has asked the kernel"),
)
NAMES = ("PyTorch", "the libraries below it", "kernel and device")


def layers(broken: Mapping[str, str] | None = None, source: str = "") -> Picture:
    """The three layers, from `NAMES`; with a forked child's part and outcome at each of them, if that was measured.

    broken: by layer, such as {"PyTorch": "refuses"}; "" for nothing; line breaks are kept. source: where that was
    measured, for the title. Raises `ValueError` for an unknown layer.
    """
    met = {layer: outcome for layer, outcome in (broken or {}).items() if outcome}
    if unknown := set(met) - set(NAMES):
        raise ValueError(f"layers: got {', '.join(sorted(unknown))}, expected some of {', '.join(NAMES)}")
    finding = _finding(met, source)
    figure = drawing.sheet(9.4, 3.6, finding)
    axes = drawing.part(figure, 0.01, 0.98, (0, 12.4), (0, 5.8))
    axes.text(4.0, 5.4, "the parent has", ha="center", fontsize=10, weight="bold", color=INK)
    axes.text(8.55, 5.4, "a fork gives the child", ha="center", fontsize=10, weight="bold", color=INK)
    for row, (name, colour, has, asked, found) in enumerate(_LAYERS):
        _row(axes, 4.4 - row, name, colour, has, found if met else asked)
    for name, outcome in met.items():
        first = next(row for row, layer in enumerate(_LAYERS) if layer[0] == name)
        rows = 1 if name == NAMES[0] else 2
        _outcome(axes, 4.4 - first - (rows - 1) / 2, outcome)
    return Picture(figure, f"{finding}{'.' if met else ''} {_met_in_words(met)}{_in_words(found=bool(met))}")


def _finding(met: Mapping[str, str], source: str) -> str:
    if not met:
        return "Three layers: what does a fork give the child of each?"
    return f"A forked child's outcome at each layer{source and f', {source}'}"


def _met_in_words(met: Mapping[str, str]) -> str:
    return "".join(f"{name}: {outcome}. ".replace("\n", " ") for name, outcome in met.items())


def _in_words(*, found: bool) -> str:
    return " ".join(
        f"{name + ': ' if name else ''}{has}; in the child: {then if found else asked}."
        for name, _, has, asked, then in _LAYERS
    )


def _row(axes: Axes, y: float, name: str, colour: str, has: str, gets: str) -> None:
    axes.text(0.05, y + 0.35, name, fontsize=9.5, weight="bold", color=INK, va="center")
    for x, width, words in ((2.35, 3.75, has), (6.9, 3.3, gets)):
        drawing.box(axes, x, y, width, 0.7, colour, gone=words in ("not there", "?"))
        axes.text(x + width / 2, y + 0.35, words, ha="center", va="center", fontsize=8.5, color=INK)
    drawing.arrow(axes, (6.15, y + 0.35), (6.85, y + 0.35), FAINT)


def _outcome(axes: Axes, y: float, words: str) -> None:
    look = {"boxstyle": "round,pad=0.35", "facecolor": "#f0e442", "edgecolor": INK}
    axes.text(11.35, y + 0.35, words, ha="center", va="center", fontsize=9.5, weight="bold", color=INK, bbox=look)
