"""The questions of a notebook's quiz: `data/quiz/NN.json`, read strictly; and the marking of answers. No Jupyter here.

{"notebook": "04", "questions": [
    {"type": "single", "question": …, "from": "03",
     "options": [{"key": "a", "text": …, "right": true, "feedback": …}, …]},
    {"type": "multiple", …},
    {"type": "numeric", "question": …, "value": 4, "tolerance": 0, "unit": …, "right": …, "wrong": …,
     "near": [{"value": 3, "feedback": …}]}
]}

`from` names the earlier notebook that a question goes back to. In texts, `…` is code.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from lab_support.notebook.page.committed import NOTEBOOKS

QUIZ = NOTEBOOKS.parent / "data" / "quiz"


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One choice. feedback: shown when it was chosen, right or not."""

    key: str
    text: str
    feedback: str
    right: bool = False


class _Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    question: str
    options: list[Option]
    from_notebook: str = msgspec.field(default="", name="from")

    def __post_init__(self) -> None:
        if not 2 <= len(self.options) <= 6 or len({option.key for option in self.options}) < len(self.options):
            raise ValueError(f"got {len(self.options)} options, expected 2 to 6 with different keys")
        if not self.right_keys:
            raise ValueError("got no right option, expected one")

    @property
    def right_keys(self) -> frozenset[str]:
        return frozenset(option.key for option in self.options if option.right)


class Single(_Choice, frozen=True, tag="single"):
    """Exactly one option is right; the reader chooses one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.right_keys) != 1:
            raise ValueError(f"got {len(self.right_keys)} right options, expected 1; or type multiple")


class Multiple(_Choice, frozen=True, tag="multiple"):
    """One or more options are right; the reader must choose exactly these."""


class Near(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wrong number that many will give, and why it is wrong."""

    value: float
    feedback: str


class Numeric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="numeric"):
    """A number within `tolerance` of `value` is right. right, wrong: the feedback in either case."""

    question: str
    value: float
    right: str
    wrong: str
    tolerance: float = 0.0
    unit: str = ""
    near: list[Near] = []
    from_notebook: str = msgspec.field(default="", name="from")


Question = Single | Multiple | Numeric


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    notebook: str
    questions: list[Question]


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark for an answer. answer: in its recorded form: keys such as "a" or "a c", or a number."""

    answer: str
    right: bool
    feedback: str


def read(number: str, folder: Path = QUIZ) -> list[Question]:
    """The questions of the notebook `number`, "00".

    Raises `LookupError` if there is no quiz, `ValueError` that names the error and its place if the file is malformed.
    """
    path = folder / f"{number}.json"
    if not path.exists():
        known = ", ".join(each.stem for each in sorted(folder.glob("*.json"))) or "none"
        raise LookupError(f"got quiz {number!r}, expected one of: {known}")
    try:
        questions = msgspec.json.decode(path.read_bytes(), type=Questions)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if questions.notebook != number:
        raise ValueError(f"{path.name}: got notebook {questions.notebook!r}, expected {number!r}")
    return questions.questions


def mark(question: Question, answer: object) -> Mark:
    """Mark `answer`: a key, keys ("ac" or ["a", "c"]), or a number. Raises `ValueError` for an invalid answer."""
    if isinstance(question, Numeric):
        return _mark_number(question, answer)
    keys = _keys(question, answer)
    chosen = [option for option in question.options if option.key in keys]
    right = keys == question.right_keys
    feedback = chosen[0].feedback
    if isinstance(question, Multiple):
        feedback = " ".join(f"{'✔' if option.right else '✘'} ({option.key}) {option.feedback}" for option in chosen)
        if keys & question.right_keys and question.right_keys - keys:
            feedback += " More of the options are right."
    return Mark(" ".join(sorted(keys)), right, feedback)


def _keys(question: Single | Multiple, answer: object) -> frozenset[str]:
    known = {option.key for option in question.options}
    words = list(answer) if isinstance(answer, str | list | tuple | set | frozenset) else [answer]
    keys = frozenset(word for word in words if word != " ")
    most = 1 if isinstance(question, Single) else len(known)
    if not keys or len(keys) > most or keys - known:
        expected = "one" if most == 1 else "one or more"
        raise ValueError(f"got {answer!r}, expected {expected} of {', '.join(sorted(known))}: {question.question}")
    return frozenset(map(str, keys))


def _mark_number(question: Numeric, answer: object) -> Mark:
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise ValueError(f"got {answer!r}, expected a number: {question.question}")
    if abs(answer - question.value) <= question.tolerance:
        return Mark(f"{answer:g}", True, question.right)
    near = (each.feedback for each in question.near if abs(answer - each.value) <= question.tolerance)
    return Mark(f"{answer:g}", False, next(near, question.wrong))
