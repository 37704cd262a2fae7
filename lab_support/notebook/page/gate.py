"""Results that wait for a prediction: "Predict first" is shown in their place until the reader answers.

Runs in the kernel. The waiting result keeps its measurement, so nothing runs again: its cell's output is replaced in
place, whether the answer came from a button or from a call.
"""

import html
from collections.abc import Callable, Sequence
from functools import wraps
from types import FunctionType
from typing import Any

from IPython import get_ipython
from IPython.core.formatters import DisplayFormatter
from IPython.display import DisplayHandle, display

from lab_support.notebook.page import predictions, record
from lab_support.notebook.page.predictions import Comparison, PredictionError, Question
from lab_support.notebook.page.svg_note import with_words_below

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""Data and metadata for a front end, by MIME type."""
Right = str | Callable[[Any], str] | None
"""The option that the measurement supports: its letter, or a function that finds it from the measurement."""


class Gated:
    """A result that is shown once prediction `number` is settled. `draw` gets the prediction and the measurement."""

    def __init__(
        self, number: str, draw: Callable[[Comparison], Any], supported: str = "", measured: Sequence[float] = ()
    ) -> None:
        asked = predictions.question(number)
        if supported and asked.options:
            _require_options(asked, supported)
        self.number = number
        self._draw = draw
        self._supported, self._measured = supported, tuple(measured)

    @property
    def waits(self) -> bool:
        return waits_for(self.number)

    def support(self, letter: str) -> None:
        """Name the option that the measurement supports, unless it is known already."""
        self._supported = self._supported or letter

    def drawn(self) -> Any:
        """The result with the prediction on it. This call counts as seeing the result."""
        comparison = predictions.compare(self.number, self._supported, self._measured)
        shown = self._draw(comparison)
        predictions.seen(comparison)
        return shown

    def _ipython_display_(self) -> None:
        show_once_settled(self.number, lambda: bundle_of(self.drawn()), _predict_first(self.number))

    def __repr__(self) -> str:
        return _predict_first(self.number)["text/plain"] if self.waits else bundle_of(self.drawn())[0]["text/plain"]


def waits_for(number: str) -> bool:
    """Whether results of prediction `number` wait: it is neither answered nor skipped, and there is a reader.

    Nothing waits for "", no prediction.
    """
    return bool(number) and not (record.in_batch() or predictions.standing(number).settled)


def show_once_settled(number: str, bundle: Callable[[], Bundle], instead: dict[str, str]) -> None:
    """Display `bundle()`, as `bundle_of` returns it; `instead` stands there until prediction `number` is settled."""
    if not waits_for(number):
        data, metadata = bundle()
        display(data, metadata=metadata, raw=True)
        return
    handle = display(instead, raw=True, display_id=True)
    places: list[DisplayHandle] = [handle] if handle else []

    def is_still_waiting() -> bool:
        if places and not waits_for(number):
            place = places.pop()  # first, because drawing counts as seeing, which calls all that watch again
            data, metadata = bundle()
            place.update(data, metadata=metadata, raw=True)
        return bool(places)

    predictions.watch(number, is_still_waiting)


def _require_options(asked: Question, supported: str) -> None:
    letters = supported if asked.rows else (supported,)
    if unknown := [letter for letter in letters if letter not in asked.options]:
        raise PredictionError(f"right: got {unknown[0]!r}, expected one of {', '.join(asked.options)}")


def _predict_first(number: str) -> dict[str, str]:
    asked = predictions.question(number)
    example = "[…]" if asked.sketch else f'"{next(iter(asked.options), "a") * max(1, len(asked.rows))}"'
    where = "in the cell above" if asked.words else f"by the cell that asks {number}, which has not run yet"
    what = f" ({asked.words})" if asked.words else ""
    plain = (
        f"Predict first. The result is measured and waits for your prediction {number}{what}: {asked.steps(where)},\n"
        f'or by lab.answer("{number}", {example}). To see it without: lab.skip("{number}")'
    )
    words = html.escape(plain.removeprefix("Predict first."), quote=False).replace("\n", " ")
    style = "border-left:4px solid #e69f00;padding:0.6em 1em;max-width:46em"
    return {"text/plain": plain, "text/html": f'<div style="{style}"><b>Predict first.</b>{words}</div>'}


def bundle_of(shown: Any) -> Bundle:
    """The data and the metadata of `shown` for a front end, by MIME type."""
    shell = get_ipython()  # type: ignore[no-untyped-call]
    formatter = shell.display_formatter if shell else DisplayFormatter()
    return formatter.format(shown)


# ---- as a function and as a decorator --------------------------------------------------------------------------------


def after_prediction(number: str, draw: Callable[[], Any], *, right: Right = None, of: Any = None) -> Gated:
    """Show the result of `draw()` once prediction `number` is answered or skipped; at once in batch runs.

    `draw` sees its cell's variables as they are at this call. right: the option that the measurement supports, or a
    function that finds it from `of`; without it no note stands below the result.
    """
    draw_then = _with_the_names_of_now(draw)
    if right is None:  # nothing to compare, so no note
        return Gated(number, lambda _: draw_then(), "")
    return Gated(number, lambda comparison: with_note(draw_then(), comparison.words), supported(right, of))


def _with_the_names_of_now(draw: Callable[[], Any]) -> Callable[[], Any]:
    """`draw` with a copy of its globals, because a reader may answer after later cells have rebound them."""
    if not isinstance(draw, FunctionType):
        return draw
    return FunctionType(draw.__code__, dict(draw.__globals__), draw.__name__, draw.__defaults__, draw.__closure__)


def takes_prediction(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Add the keywords `prediction` and `right` to a function that draws its first argument; see `after_prediction`.

    If `right` is a function, it gets that argument.
    """

    @wraps(draw)
    def drawn(measured: Any, *more: Any, prediction: str = "", right: Right = None, **choices: Any) -> Any:
        if not prediction:
            return draw(measured, *more, **choices)
        return after_prediction(prediction, lambda: draw(measured, *more, **choices), right=right, of=measured)

    return drawn


def supported(right: Right, measured: Any) -> str:
    """The letter that `right` names or computes; "" for none."""
    return (right(measured) if callable(right) else right) or ""


def with_note(shown: Any, words: str) -> Any:
    """`shown` with a line below it: inside the picture or table if that supports notes, else after it."""
    if not words:
        return shown
    return shown.with_note(words) if hasattr(shown, "with_note") else _Noted(shown, words)


class _Noted:
    """Anything that a notebook can show, with a line below it."""

    def __init__(self, shown: Any, words: str) -> None:
        self._shown, self._words = shown, words

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = bundle_of(self._shown)
        data = data | {"text/plain": f"{data.get('text/plain', '')}\n{self._words}"}
        if "text/html" in data:
            data["text/html"] += f"<p>{html.escape(self._words)}</p>"
        if "image/svg+xml" in data:
            data["image/svg+xml"] = with_words_below(data["image/svg+xml"], self._words)
        return data, metadata
