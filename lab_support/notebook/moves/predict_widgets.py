"""The widgets of `lab.predict`: radio buttons with whole, wrapped options; sliders with a live picture of the shares.

Run in the kernel, when the browser sends a choice. Their twins for readers without widgets are in predict.py.
"""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.moves.status import status
from lab_support.notebook.page import predictions
from lab_support.notebook.page.kept_widgets import kept
from lab_support.notebook.page.predictions import SKETCH_BUTTON, TABLE_BUTTON, Question
from lab_support.notebook.page.views import escaped

_STYLE = """<style>
.lab-options, .lab-options .widget-radio-box { width: auto; max-width: 46em; height: auto; overflow: visible; }
.lab-options label { white-space: normal; height: auto; line-height: 1.45; padding: 3px 0; display: flex; gap: 8px;
  flex-direction: row-reverse; justify-content: flex-end; }
.lab-options label input { flex: none; margin-top: 0; }
.lab-row { line-height: 1.3; padding: 5px 0; white-space: normal; }
</style>"""
_GROWS = widgets.Layout(height="auto")  # of a label: as many lines as its words need
# A reloaded page no longer knows which output the result should replace, and a kernel can't ask it.
_AFTER_A_RELOAD = " If the result's cell still shows “Predict first”, run that cell again."
_FRAME = {"border_left": "4px solid #0072b2", "padding": "2px 0 2px 12px", "margin": "4px 0"}


def panel(asked: Question) -> widgets.VBox:
    """The question as a widget; it follows changes of the prediction elsewhere."""
    heading = widgets.HTML(f"{_STYLE}<b>Predict {asked.number}:</b> {escaped(asked.words)}")
    state = widgets.HTML()
    inputs = (_Sketch if asked.sketch else _Rows if asked.rows else _Options)(asked, state)

    def refresh() -> bool:
        if predictions.question(asked.number) is not asked:  # the cell ran again, and has a newer panel
            return False
        now = predictions.standing(asked.number)
        state.value = f"<i>{escaped(status(asked, now))}{_AFTER_A_RELOAD if now.seen else ''}</i>"
        inputs.show(now.latest)
        return True

    refresh()
    predictions.watch(asked.number, refresh)
    return kept(widgets.VBox([heading, inputs.box, state], layout=widgets.Layout(**_FRAME)))


def _give(number: str, answer: Any, state: widgets.HTML) -> None:
    """Give the answer from a browser. An error would be lost in the kernel's log, so it is shown to the reader."""
    try:
        predictions.give(number, answer)
    except Exception as error:
        state.value = f"<b>{html.escape(f'{type(error).__name__}: {error}')}</b> Run the cell of the result again."


class _Options:
    def __init__(self, asked: Question, state: widgets.HTML) -> None:
        self.box = widgets.RadioButtons(
            options=[(f"{letter}\u2002{text}", letter) for letter, text in asked.options.items()], value=None
        )
        self.box.add_class("lab-options")
        self.box.observe(lambda change: self._choose(asked.number, change.new, state), names="value")

    def _choose(self, number: str, letter: str | None, state: widgets.HTML) -> None:
        if letter is not None:
            _give(number, letter, state)

    def show(self, answer: Any) -> None:
        self.box.value = answer


class _Rows:
    """One drop-down for each row, and one button, because a table is one answer."""

    def __init__(self, asked: Question, state: widgets.HTML) -> None:
        choices = [("choose …", ""), *((text, letter) for letter, text in asked.options.items())]
        wide = widgets.Layout(width="100%")
        self._chosen = [widgets.Dropdown(options=choices, value="", layout=wide) for _ in asked.rows]
        self._keep = widgets.Button(description=TABLE_BUTTON, button_style="primary", disabled=True)
        for each in self._chosen:
            each.observe(lambda change: self._look(), names="value")
        self._keep.on_click(lambda button: _give(asked.number, "".join(self._letters), state))
        cells = [
            each
            for row, chosen in zip(asked.rows, self._chosen, strict=True)
            for each in (widgets.HTML(f'<div class="lab-row">{escaped(row)}</div>', layout=_GROWS), chosen)
        ]
        layout = widgets.Layout(grid_template_columns="minmax(18em, 26em) 16em", grid_gap="0 1em", width="auto")
        self.box = widgets.VBox([widgets.GridBox(cells, layout=layout), self._keep])

    @property
    def _letters(self) -> list[str]:
        return [each.value for each in self._chosen if each.value]

    def _look(self) -> None:
        self._keep.disabled = len(self._letters) < len(self._chosen)

    def show(self, answer: Any) -> None:
        for each, letter in zip(self._chosen, answer or (), strict=False):
            each.value = letter


class _Sketch:
    def __init__(self, asked: Question, state: widgets.HTML) -> None:
        self._labels = asked.sketch
        tall = widgets.Layout(height="170px", width="64px")
        self._sliders = [
            widgets.FloatSlider(50, min=0, max=100, step=1, orientation="vertical", description=label,
                                readout=False, layout=tall)
            for label in asked.sketch
        ]  # fmt: skip
        self._picture = widgets.HTML()
        self._keep = widgets.Button(description=SKETCH_BUTTON, button_style="primary")
        self._keep.layout = widgets.Layout(width="auto", align_self="flex-start")
        for slider in self._sliders:
            slider.observe(lambda change: self._draw(), names="value")
        self._keep.on_click(lambda button: _give(asked.number, self._heights, state))
        self._draw()
        columns = widgets.HBox([*self._sliders, self._picture], layout=widgets.Layout(align_items="center"))
        self.box = widgets.VBox([columns, self._keep])

    @property
    def _heights(self) -> list[float]:
        return [slider.value for slider in self._sliders]

    def show(self, answer: Any) -> None:
        if answer is None or max(abs(one - two) for one, two in zip(answer, shares(self._heights), strict=True)) < 0.01:
            return
        for slider, share in zip(self._sliders, answer, strict=True):
            slider.value = 100 * share

    def _draw(self) -> None:
        self._keep.disabled = not sum(self._heights)
        self._picture.value = bars_svg(self._labels, shares(self._heights))


def shares(heights: Sequence[float]) -> list[float]:
    """The heights as shares of their sum; all 0 if the sum is 0."""
    whole = sum(heights)
    return [height / whole if whole else 0.0 for height in heights]


def bars_svg(labels: Sequence[str], parts: Sequence[float]) -> str:
    """Bars of shares from 0 to 100 %, as SVG text. It takes about 1 ms, so it can follow a slider."""
    width, base, tall = 70 * len(labels) + 20, 150, 120
    said = ", ".join(f"{label} {part:.0%}" for label, part in zip(labels, parts, strict=True))
    bars = "".join(
        _bar(index, label, part, base, tall) for index, (label, part) in enumerate(zip(labels, parts, strict=True))
    )
    return (
        f'<svg width="{width}" height="178" role="img" aria-label="Your sketch: {html.escape(said)}" '
        f'font-family="sans-serif" font-size="13" text-anchor="middle">'
        f'<line x1="10" y1="{base}" x2="{width - 10}" y2="{base}" stroke="#222"/>{bars}</svg>'
    )


def _bar(index: int, label: str, part: float, base: int, tall: int) -> str:
    left, height = 20 + 70 * index, round(tall * part, 1)
    middle = left + 25
    return (
        f'<rect x="{left}" y="{base - height}" width="50" height="{height}" fill="{colour_of(index)}" stroke="#222"/>'
        f'<text x="{middle}" y="{base - height - 5}">{part:.0%}</text>'
        f'<text x="{middle}" y="{base + 18}">{html.escape(label)}</text>'
    )
