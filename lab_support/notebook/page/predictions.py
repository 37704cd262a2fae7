"""The reader's predictions, compared with the measurements. Data only: other files show it.

Runs in the kernel. Everything is derived from the record, so that a restart of the kernel forgets nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab_support.notebook.page import record

Answer = str | tuple[float, ...]
"""The letter of an option; one letter for each row of a table, "abca"; or the shares of a sketch, which sum to 1."""

TABLE_BUTTON = "This is my table"
SKETCH_BUTTON = "This is my prediction"
"""Labels of the buttons, also used by the sentences that mention them."""

CLOSE = 0.15
"""A sketch is right if moving at most this share of the whole between bars turns it into the measurement."""


class PredictionError(ValueError):
    """An invalid answer or question. The text says got, expected, and what to do."""

    def _render_traceback_(self) -> list[str]:
        return [f"PredictionError: {self}"]


@dataclass(frozen=True, slots=True)
class Question:
    """Asked by `lab.predict`. options: text by letter, empty for a sketch; sketch: the labels of its bars.

    rows: labels of a table's rows, each filled in with one of the options; empty if the question is a single choice.
    """

    number: str
    words: str
    options: dict[str, str] = field(default_factory=dict)
    sketch: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def understand(self, answer: str | Sequence[float]) -> Answer:
        """The answer in its normal form. Raises `PredictionError`."""
        if self.rows:
            return self._filled_in(answer)
        return self._letter(answer) if self.options else self._shares(answer)

    def _filled_in(self, answer: str | Sequence[Any]) -> str:
        letters = "".join(map(str, answer))
        if len(letters) != len(self.rows) or set(letters) - set(self.options):
            expected = f"{len(self.rows)} letters, one for each row, out of {', '.join(self.options)}"
            raise PredictionError(f"got {answer!r}, expected {expected}")
        return letters

    def _letter(self, answer: object) -> str:
        if answer not in tuple(self.options):
            expected = f"one of {', '.join(self.options)}"
            raise PredictionError(f'got {answer!r}, expected {expected}: lab.answer("{self.number}", "a")')
        return str(answer)

    def _shares(self, heights: str | Sequence[float]) -> tuple[float, ...]:
        numbers = [] if isinstance(heights, str) else [float(height) for height in heights]
        if len(numbers) != len(self.sketch) or min(numbers) < 0 or not sum(numbers):
            expected = f"{len(self.sketch)} heights, one each for {', '.join(self.sketch)}, none below 0 and not all 0"
            raise PredictionError(f"got {heights!r}, expected {expected}")
        return tuple(round(number / sum(numbers), 4) for number in numbers)

    def steps(self, where: str = "") -> str:
        """The steps to answer it with widgets. where: such as "in the cell above"."""
        what = f"{'choose in every row' if self.rows else 'set every bar' if self.sketch else 'choose'} {where}".strip()
        button = TABLE_BUTTON if self.rows else SKETCH_BUTTON if self.sketch else ""
        return f"{what}, then press “{button}”" if button else what

    def in_words(self, answer: Answer) -> str:
        """`c (about 4: all are woken)`, or `P1 25 %, P2 75 %`."""
        if self.rows:
            return ", ".join(f"{row}: {self.options[letter]}" for row, letter in zip(self.rows, answer, strict=True))  # type: ignore[index]
        if isinstance(answer, str):
            return f"{answer} ({self.options[answer]})" if answer in self.options else answer
        labels = self.sketch or tuple(f"bar {index + 1}" for index in range(len(answer)))
        return ", ".join(f"{label} {share:.0%}" for label, share in zip(labels, answer, strict=False))

    @property
    def values(self) -> dict[str, float]:
        """The number with which each option begins, as in "about 4: all are woken"; {} unless all begin with one."""
        found = {
            letter: re.match(r"(?:about |around |≈ ?)?(\d+(?:\.\d+)?)\b", text) for letter, text in self.options.items()
        }
        return {letter: float(match[1]) for letter, match in found.items() if match} if all(found.values()) else {}


# ---- the state of a prediction ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """counted: the answer before the result was seen; late: the last answer after it. None if there is none."""

    counted: Answer | None = None
    late: Answer | None = None
    seen: bool = False
    skipped: bool = False

    @property
    def latest(self) -> Answer | None:
        return self.counted if self.late is None else self.late

    @property
    def settled(self) -> bool:
        """Whether the result no longer waits."""
        return self.latest is not None or self.seen or self.skipped


def standing(number: str) -> Standing:
    """The state of the reader's prediction `number`, from the record."""
    counted, late, seen, skipped = None, None, False, False
    for entry in record.entries("prediction", number):
        if entry.fields.get("event") == "answer":
            answer = answer_of(entry.fields)
            counted, late = (counted, answer) if entry.fields.get("late") else (answer, late)
        seen = seen or entry.fields.get("event") == "seen"
        skipped = skipped or entry.fields.get("event") == "skip"
    return Standing(counted, late, seen, skipped)


def answer_of(fields: Mapping[str, Any]) -> Answer:
    answer = fields["answer"]
    return answer if isinstance(answer, str) else tuple(answer)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction and the measurement. supported: the option that the measurement supports, or "".

    measured: the shares that were measured, for a sketch. answer: None without one; late: it came after the result.
    """

    question: Question
    answer: Answer | None
    late: bool
    supported: str = ""
    measured: tuple[float, ...] = ()

    @property
    def off(self) -> float:
        """The share of the whole that a sketch has in the wrong bars."""
        assert isinstance(self.answer, tuple) and self.measured
        return sum(abs(one - other) for one, other in zip(self.answer, self.measured, strict=True)) / 2

    @property
    def right(self) -> bool | None:
        """None without an answer, or if it can't be told."""
        if isinstance(self.answer, tuple):
            return self.off <= CLOSE if self.measured else None
        return self.answer == self.supported if self.answer and self.supported else None

    @property
    def rows_right(self) -> int:
        """The number of table rows filled in as measured."""
        return sum(one == other for one, other in zip(str(self.answer), self.supported, strict=False))

    @property
    def words(self) -> str:
        """A sentence or two for below the result; "" if there is nothing to say."""
        if self.question.rows:
            who = "Filled in after the result, not counted." if self.late else "You filled it in."
            return "" if self.answer is None else who + self._verdict()
        if self.answer is None:
            return f"The measurement supports {self._named(self.supported)}." if self.supported else ""
        who = "Chosen after the result, not counted:" if self.late else "Your prediction:"
        return f"{who} {self._named(self.answer)}.{self._verdict()}"

    def _named(self, answer: Answer) -> str:
        return self.question.in_words(answer)

    def _verdict(self) -> str:
        if self.right is None:
            return ""
        if self.question.rows:
            return f" {'✔' if self.right else '✘'} {self.rows_right} of {len(self.question.rows)} rows as measured."
        if isinstance(self.answer, tuple):
            sign = "✔ Close:" if self.right else "✘ Another picture:"
            return f" {sign} {self.off:.0%} of the whole is in other bars."
        if self.right:
            return " ✔ The measurement supports it."
        return f" ✘ The measurement supports {self._named(self.supported)}."


# ---- the events of a prediction --------------------------------------------------------------------------------------

_questions: dict[str, Question] = {}
_watching: dict[str, list[Callable[[], bool]]] = {}
"""The mutable state here: this kernel's questions, and the callbacks for each answer, kept while they return True."""


def ask(question: Question) -> None:
    """Remember the question, so that answers to it are understood."""
    _questions[question.number] = question


def question(number: str) -> Question:
    """The question that was asked; one without words if its cell has not run yet."""
    return _questions.get(number) or Question(number, "")


def unanswered() -> list[str]:
    """Numbers of unanswered predictions: asked or waited for, and not settled."""
    return [number for number in {**_questions, **_watching} if not standing(number).settled]


def give(number: str, answer: str | Sequence[float]) -> Standing:
    """Record an answer and draw what waits for it. The same answer again changes nothing. Raises `PredictionError`."""
    if number not in _questions:
        raise PredictionError(
            f"got no question {number!r}, expected one that was asked: run its lab.predict cell first"
        )
    asked = _questions[number]
    understood, now = asked.understand(answer), standing(number)
    if understood != now.latest:
        more: dict[str, Any] = {"options": asked.options} if asked.options else {"sketch": asked.sketch}
        more |= {"rows": asked.rows} if asked.rows else {}
        record.note("prediction", number, event="answer", answer=understood, late=now.seen, words=asked.words, **more)
        tell(number)
    return standing(number)


def skip(number: str) -> None:
    """Settle prediction `number` without an answer."""
    if not standing(number).settled:
        record.note("prediction", number, event="skip")
    tell(number)


def seen(comparison: Comparison) -> None:
    """The reader has seen the result: from now on, answers are late."""
    number = comparison.question.number
    if standing(number).seen:
        return
    right = None if comparison.late else comparison.right
    measured = {"measured": comparison.measured} if comparison.measured else {"supported": comparison.supported}
    record.note("prediction", number, event="seen", right=right, **measured)
    tell(number)


def compare(number: str, supported: str, measured: tuple[float, ...]) -> Comparison:
    now = standing(number)
    return Comparison(question(number), now.latest if now.counted is None else now.counted, now.counted is None,
                      supported, measured)  # fmt: skip


def watch(number: str, changed: Callable[[], bool]) -> None:
    """Call `changed` whenever something happens to prediction `number`, until it returns False."""
    _watching.setdefault(number, []).append(changed)


def tell(number: str) -> None:
    """Call all watchers of prediction `number`. One that draws calls this again, so the loop runs over a copy."""
    watching = _watching.get(number, [])
    for changed in tuple(watching):
        if not changed() and changed in watching:
            watching.remove(changed)
