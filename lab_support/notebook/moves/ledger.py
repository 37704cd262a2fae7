"""`lab.ledger()`: the article's sentences that a notebook tested, each with the verdict of this reader's own results.

Runs in the kernel. It measures nothing: a verdict is computed from the claims in the reader's record, the last outcome
of each. The rows stand beside the notebooks, as `LEDGER` in `solutions/NN_verdicts.py`.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from IPython.display import DisplayHandle, display

from lab_support.notebook.moves import article
from lab_support.notebook.moves.answer_files import modules_of
from lab_support.notebook.moves.article import Sentence
from lab_support.notebook.page import predictions, record
from lab_support.notebook.page.gate import waits_for
from lab_support.notebook.page.record import NOTEBOOK, Entry
from lab_support.notebook.page.views import View, escaped

__all__ = ["Ledger", "Tested", "ledger", "tested"]

_HALVES = {1: "first half", 2: "second half"}


@dataclass(frozen=True, slots=True)
class Tested:
    """A sentence of the article, and how a notebook tested it.

    sentence: its number in `data/article.json`. claims: the words of the claims that test it. finding: the verdict if
    all of them hold, such as "not so: spawn sends no message …". otherwise: the verdict if one does not. appendix: the
    notebook that tests it, "03a", where the ledger of notebook 03 shows it, too.
    """

    sentence: int
    claims: tuple[str, ...]
    finding: str
    otherwise: str
    appendix: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.claims, str) or not self.claims:
            raise ValueError(f"sentence {self.sentence}: got claims={self.claims!r}, expected a tuple of claims' words")

    @property
    def waits_for(self) -> list[str]:
        """The numbers of the predictions that its claims would give away; none in runs without a reader."""
        numbers = dict.fromkeys(str(each.fields.get("prediction") or "") for each in self._noted if each)
        return [number for number in numbers if waits_for(number)]

    @property
    def verdict(self) -> str:
        """The finding, if this reader's results support it; else the other verdict, or what is still missing."""
        noted = self._noted
        outcomes = [each.fields.get("outcome") for each in noted if each]
        if self.waits_for:
            return f"predict {' and '.join(self.waits_for)} first"
        if False in outcomes:
            return self.otherwise
        if len(outcomes) < len(noted):
            return f"not tested yet: {self._to_do(self.claims[noted.index(None)])}"
        if None in outcomes:
            return f"can't be tested here: {_reason(noted[outcomes.index(None)])}"
        return self.finding

    def _to_do(self, words: str) -> str:
        if self.appendix:
            return f"its cell is in the appendix, {self.appendix}"
        return f"run the cell that claims “{words}”"

    @property
    def _noted(self) -> list[Entry | None]:
        """The last entry of each claim; None for one that was not run yet."""
        return [next(iter(reversed(record.entries("claim", words))), None) for words in self.claims]


def _reason(entry: Entry | None) -> str:
    return str(entry.fields.get("reason") or "no reason was given") if entry else ""


# ---- showing it ------------------------------------------------------------------------------------------------------


class Ledger:
    """The rows as one table. It is drawn again whenever a prediction is settled that a row waits for."""

    def __init__(self, rows: Sequence[tuple[Tested, str]]) -> None:
        self._rows = rows

    @property
    def view(self) -> View:
        parts = [(article.sentence(each.sentence), where, each.verdict) for each, where in self._rows]
        lines = "\n".join(_in_text(*part) for part in parts)
        rows = "".join(_in_html(*part) for part in parts)
        return View(
            f"The article's sentences, and the verdicts of your results\n{lines}",
            f"<table><thead><tr>{_head('the article says')}{_head('your results say')}</tr></thead>"
            f"<tbody>{rows}</tbody></table>",
        )

    def __repr__(self) -> str:
        return self.view.text

    def _ipython_display_(self) -> None:
        handle = display(self.view._repr_mimebundle_(), raw=True, display_id=True)
        for number in dict.fromkeys(number for each, _ in self._rows for number in each.waits_for):
            predictions.watch(number, partial(self._drawn_again, handle, number))

    def _drawn_again(self, handle: DisplayHandle | None, number: str) -> bool:
        if handle and not waits_for(number):
            handle.update(self.view._repr_mimebundle_(), raw=True)
        return waits_for(number)


def _in_text(quoted: Sentence, where: str, verdict: str) -> str:
    further = [f"     {words}" for words in (quoted.elsewhere, where) if words]
    lines = [f" {quoted.id:2}. “{quoted.english}” ({_HALVES[quoted.half]})", f"     {quoted.original}", *further]
    return "\n".join([*lines, f"     → {verdict}"])


def _in_html(quoted: Sentence, where: str, verdict: str) -> str:
    further = "".join(f"<br>{escaped(words)}" for words in (quoted.elsewhere, where) if words)
    original = f'<span lang="zh" style="opacity:.75">{escaped(quoted.original)}</span>'
    says = f"{quoted.id}. “{escaped(quoted.english)}” ({_HALVES[quoted.half]})<br>{original}{further}"
    return f"<tr>{_cell(says)}{_cell(escaped(verdict))}</tr>"


def _cell(words: str) -> str:
    return f'<td style="text-align:left;vertical-align:top;max-width:30em;white-space:normal">{words}</td>'


def _head(words: str) -> str:
    return f'<th style="text-align:left">{words}</th>'


# ---- finding the rows ------------------------------------------------------------------------------------------------


def ledger(number: str | None = None) -> Ledger:
    """The article's sentences that the notebook `number` and its appendix test, with a verdict on each.

    number: "03" or "03a"; by default, the one given to `lab.start`. Raises `LookupError` if there is no such ledger.
    """
    number = number or os.environ.get(NOTEBOOK, "")
    rows = [(each, "") for each in tested(number)]
    rows += [(replace(each, appendix=f"{number}a"), f"in the appendix, {number}a") for each in tested(f"{number}a")]
    if not rows:
        raise LookupError(f'got no ledger of notebook {number!r}, expected one that has it: lab.ledger("03")')
    return Ledger(rows)


def tested(number: str) -> tuple[Tested, ...]:
    """`LEDGER` of the notebook with exactly this number; empty if it has none."""
    return tuple(each for module in modules_of(number, "verdicts") for each in _rows_of(module.__dict__))


def _rows_of(names: dict[str, Any]) -> Iterable[Tested]:
    rows: Iterable[Tested] = names.get("LEDGER", ())
    return rows
