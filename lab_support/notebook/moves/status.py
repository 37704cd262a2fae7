"""The state of a reader's prediction, in words."""

from lab_support.notebook.page import predictions
from lab_support.notebook.page.predictions import Question

_CHANGEABLE = "You may change it until you see the result."


def status(question: Question, now: predictions.Standing) -> str:
    """The state of the reader's prediction, in a sentence or two."""
    letters = next(iter(question.options), "") * max(1, len(question.rows))
    call = f'lab.answer("{question.number}", {"[…]" if question.sketch else chr(34) + letters + chr(34)})'
    if now.latest is None:
        return (
            "You have seen the result without a prediction."
            if now.seen
            else f"Not answered yet: {question.steps()}. Without buttons: {call}"
        )
    if question.rows and now.late is None:
        return f"You filled it in. {'You have seen the result.' if now.seen else _CHANGEABLE}"
    if now.late is not None:
        before = question.in_words(now.counted) if now.counted else "nothing"
        return f"After the result, not counted: {question.in_words(now.late)}. Before it: {before}."
    changeable = "You have seen the result." if now.seen else _CHANGEABLE
    return f"Your prediction: {question.in_words(now.latest)}. {changeable}"
