"""`lab.progress()`: a reader's own record of a notebook as one table. It reads the record and measures nothing."""

import os
from typing import Any

from lab_support.notebook.moves.asked import Asked, asked_in
from lab_support.notebook.page import predictions, record
from lab_support.notebook.page.gate import waits_for
from lab_support.notebook.page.plain import plain
from lab_support.notebook.page.record import NOTEBOOK, Entry
from lab_support.notebook.page.tables import Table

_COLUMNS = ("what", "which", "yours", "outcome")
_SIGNS = {True: "✔", False: "✘", None: "–"}


def progress(number: str | None = None) -> Table:
    """Predictions, claims, checks and quiz answers of the notebook `number`; by default, the one given to `lab.start`.

    The last entry of each counts; for a prediction, the last answer before the result was seen; and an exercise or a
    blank that has passed once has passed, also if a later try failed, which is told. Claims that held are
    counted below the table, and have no row of their own, because a notebook has dozens. Questions of the notebook
    that were not tried are counted there too.
    """
    number = number or os.environ.get(NOTEBOOK, "")
    mine = [entry for entry in record.entries() if _belongs(entry, number)]
    rows = []
    for kind in record.KINDS:
        for name in dict.fromkeys(entry.name for entry in mine if entry.kind == kind):
            rows.append(_row(kind, name, [entry for entry in mine if (entry.kind, entry.name) == (kind, name)]))
    waiting = {entry.name for entry in mine if waits_for(entry.fields.get("prediction", ""))}
    shown = [row for row in rows if row[0] != "claim" or (row[3] != _SIGNS[True] and row[1] not in waiting)]
    return Table(_COLUMNS if shown else (), tuple(shown), _summary(rows, asked_in(number)))


def _belongs(entry: Entry, number: str) -> bool:
    return not number or entry.fields.get("notebook") == number or entry.name.startswith(f"{number}.")


def _row(kind: str, name: str, mine: list[Entry]) -> tuple[str, str, str, str]:
    if kind == "prediction":
        return kind, name, *_prediction(name, mine)
    if kind == "check":
        return kind, name, *_check(mine)
    fields = mine[-1].fields
    return kind, name, _said(fields), _outcome(fields)


def _check(mine: list[Entry]) -> tuple[str, str]:
    last = mine[-1].fields
    passed = [entry.fields for entry in mine if entry.fields.get("outcome") is True]
    counted = passed[-1] if passed else last
    later = "; the last try failed" if passed and last.get("outcome") is False else ""
    return _said(counted), _outcome(counted) + later


def _prediction(name: str, mine: list[Entry]) -> tuple[str, str]:
    now = predictions.standing(name)
    results = [entry.fields.get("right") for entry in mine if entry.fields.get("event") == "seen"]
    if now.counted is not None:
        outcome = _SIGNS[results[0]] if results else "the result was not seen yet"
        return _short(now.counted), outcome + (f", and later {_short(now.late)}" if now.late is not None else "")
    if now.late is not None:
        return _short(now.late), "after the result, not counted"
    return "–", "skipped" if now.skipped else "seen without an answer" if now.seen else "–"


def _short(answer: predictions.Answer) -> str:
    return answer if isinstance(answer, str) else " ".join(f"{share:.0%}" for share in answer)


def _said(fields: dict[str, Any]) -> str:
    return plain(next((fields[key] for key in ("got", "answer", "measured", "reason") if fields.get(key)), None))


def _outcome(fields: dict[str, Any]) -> str:
    """A truth value as a sign, and a word as it is."""
    found = next((fields[key] for key in ("outcome", "passed", "right", "correct") if key in fields), None)
    return _SIGNS[found] if found is None or isinstance(found, bool) else str(found)


def _summary(rows: list[tuple[str, str, str, str]], asked: Asked) -> str:
    parts = [part for kind in record.KINDS if (part := _standing(kind, rows, asked.names(kind)))]
    where = "" if record.in_batch() else " This is kept in .lab/record.jsonl, only on this machine."
    nothing = "" if rows else "Nothing is recorded yet. "
    return (nothing + " · ".join(parts) + ("." + where if parts else "")).strip()


def _standing(kind: str, rows: list[tuple[str, str, str, str]], asked: tuple[str, ...]) -> str:
    """The counts of one kind: right, all, and not tried (without a row); "" for a kind without any."""
    outcomes = {name: outcome for row_kind, name, _, outcome in rows if row_kind == kind}
    untried = [name for name in asked if name not in outcomes]
    count = len(outcomes) + len(untried)
    right = sum(outcome.startswith("✔") for outcome in outcomes.values())
    more = f", {len(untried)} not tried" if untried else ""
    return f"{kind}: {right} ✔ of {count}{more}" if count else ""
