"""`lab.imports`: the time of a process's imports, with each module as a block above those that it imported.

It takes the output of `-X importtime` and returns a picture; it never measures.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab_support.instruments.import_time import Import, parse
from lab_support.notebook.canvas.plots import HATCHES, INK, Picture, quiet, title
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.cell_words import COLOURS
from lab_support.notebook.page.gate import takes_prediction

_DEEPEST = 6
_LEAST = 0.004
"""Share of the whole: a narrower block is not drawn, because nobody could see it."""
_LABEL = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
_GROUPS = ("Python's own start", "multiprocessing", "your script and its imports")


@takes_prediction
def imports(measured: ProcessResult | str, process: str = "") -> Picture:
    """The imports of one process of a cell that ran under `-X importtime` or PYTHONPROFILEIMPORTTIME=1.

    measured: the cell's result, with `process` naming one; or the text itself. Raises `LookupError` without imports.
    """
    text = measured if isinstance(measured, str) else measured.output_of(process, "err")
    tops = parse(text)
    if not tops:
        raise LookupError("got no line `import time: …`, expected them from -X importtime or PYTHONPROFILEIMPORTTIME=1")
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    axes = figure.subplots()
    whole, left = sum(top.ms for top in tops), 0.0
    groups = _groups(tops)
    for top, group in zip(tops, groups, strict=True):
        _draw(axes, top, left, 0, group, whole)
        left += top.ms
    axes.set_xlim(0, whole)
    axes.set_ylim(-_DEEPEST - 0.05, 0.05)
    axes.set_yticks([])
    axes.set_xlabel("milliseconds of importing (a block stands above the modules that it was the first to import)")
    axes.xaxis.label.set_fontsize(9)
    quiet(axes)
    axes.spines["left"].set_visible(False)
    _legend(axes, tops, groups)
    finding = _finding(tops, groups)
    title(axes, finding)
    return Picture(figure, f"Imports of one process. {finding}. {_in_words(tops)}")


def _groups(tops: Sequence[Import]) -> list[int]:
    """The index in `_GROUPS` of each import: Python's own are those up to `site`."""
    names = [top.name for top in tops]
    own = names.index("site") if "site" in names else -1
    after = [index for index, name in enumerate(names) if name.partition(".")[0] == "multiprocessing"]
    last = after[-1] if after else own
    return [0 if index <= own else 1 if index <= last else 2 for index in range(len(tops))]


def _draw(axes: Axes, one: Import, left: float, depth: int, group: int, whole: float) -> None:
    if depth >= _DEEPEST or one.ms < _LEAST * whole:
        return
    axes.barh(
        -depth - 0.5, one.ms, left=left, height=0.94, color=COLOURS[(0, 4, 2)[group]], edgecolor="white",
        linewidth=0.6, alpha=0.9 - 0.09 * depth, hatch=HATCHES[group] if not depth else "",
    )  # fmt: skip
    room = int(one.ms / whole * 118)
    name = one.name if len(one.name) <= room else one.name.rpartition(".")[2]
    if len(name) <= room:
        axes.text(left + one.ms / 2, -depth - 0.5, name, ha="center", va="center", fontsize=8, color=INK, bbox=_LABEL)
    for below in one.imports:
        _draw(axes, below, left, depth + 1, group, whole)
        left += below.ms


def _legend(axes: Axes, tops: Sequence[Import], groups: Sequence[int]) -> None:
    for group, name in enumerate(_GROUPS):
        if group in groups:
            ms = sum(top.ms for top, mine in zip(tops, groups, strict=True) if mine == group)
            axes.bar(0, 0, color=COLOURS[(0, 4, 2)[group]], hatch=HATCHES[group], edgecolor="white", alpha=0.9,
                     label=f"{name}: {ms:.0f} ms")  # fmt: skip
    axes.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)


def _finding(tops: Sequence[Import], groups: Sequence[int]) -> str:
    count, whole = sum(1 for top in tops for _ in top), sum(top.ms for top in tops)
    shares = [
        (sum(top.ms for top, mine in zip(tops, groups, strict=True) if mine == group) / whole, name)
        for group, name in enumerate(_GROUPS)
    ]
    most, name = max(shares)
    return f"{count} imports took {whole:.0f} ms, {most:.0%} of it for {name}"


def _in_words(tops: Sequence[Import]) -> str:
    largest = sorted(tops, key=lambda top: -top.ms)[:6]
    return "Largest: " + ", ".join(f"{top.name} {top.ms:.0f} ms" for top in largest) + "."
