"""The blanks of notebook 07: their solutions, typical wrong fillings, and how each is judged."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed

# ---- your own request, by its trace id -------------------------------------------------------------------------------

NOT_OF_THE_FORM = (
    "the server read no trace id from the header, so it is not of the form: four parts joined by hyphens, which are "
    "00, the 32 digits of the trace id, the 16 digits of the parent id, and 01"
)
ANOTHER_ID = "the header is of the form, but it carries another trace id than yours, so yours is not in the trace"
NO_DURATION = "times of the clock were added up: a step lasts from its begin to its end, which is a difference"
BACKWARDS = "the seconds are negative: the end of a step comes after its begin"
TOO_MUCH = "more seconds than the request lasted: add up each step once, not a longer time for each of them"
PART = (
    "only a part of each step was counted: every request in a step waits for all of it, from its begin to its end, "
    "however many share it"
)


def judge_my_request(result: ProcessResult) -> Verdict | None:
    expected = "your request is found in the trace, and the seconds of its steps are those that the engine core wrote"
    told = [event.fields for event in result.events]
    ids = [each for each in told if "trace_ids" in each]
    if ids[0]["sent"] not in ids[0]["trace_ids"]:
        found = ", ".join(filter(None, ids[0]["trace_ids"]))
        measured = f"the trace has the trace id {found}" if found else "the request in the trace has no trace id"
        return failed(measured, expected, ANOTHER_ID if found else NOT_OF_THE_FORM)
    rows = [each for each in told if "in_steps" in each]
    measured = "your request was found; seconds in steps: " + ", ".join(
        f"{each['in_steps']:.3f} with {each['clients']} at once" for each in rows[:2]
    )
    cause = next((cause for each in rows if (cause := _cause(each))), "")
    if cause:
        truth = ", ".join(f"{_in_steps(each):.3f}" for each in rows[:2])
        return failed(measured, f"{expected}: {truth}", cause)
    return passed(measured) if len(rows) == 6 else None


def _in_steps(row: dict[str, Any]) -> float:
    return float(sum(ended - begun for begun, ended, _ in row["steps"]))


def _cause(row: dict[str, Any]) -> str:
    counted, truth = row["in_steps"], _in_steps(row)
    findings = (
        (abs(counted - truth) <= 0.02 * truth, ""),
        (counted < 0, BACKWARDS),
        (counted > 100 * row["total"], NO_DURATION),
        (counted > row["total"], TOO_MUCH),
        (True, PART),
    )
    return next(cause for found, cause in findings if found)


_HEADER = 'f"00-{trace_id}-{parent_id}-01"'
_SECONDS = "share.step.ended_at - share.step.at"

BLANKS = (
    Blank(
        name="07.b3",
        cell="crowd",
        task="send your own trace id in the header `traceparent`, and add up the seconds of your request's steps",
        right=(
            (_HEADER, _SECONDS),
            (
                '"-".join(("00", trace_id, parent_id, "01"))',
                "(share.step.scheduled_at - share.step.at) + (share.step.ended_at - share.step.scheduled_at)",
            ),
        ),
        wrong=(
            WrongFilling(NOT_OF_THE_FORM, ("trace_id", _SECONDS)),
            WrongFilling(NOT_OF_THE_FORM, ('f"00-{parent_id}-{trace_id}-01"', _SECONDS)),
            WrongFilling(ANOTHER_ID, ('f"00-{parent_id + parent_id}-{trace_id[:16]}-01"', _SECONDS)),
            WrongFilling(NO_DURATION, (_HEADER, "share.step.ended_at")),
            WrongFilling(BACKWARDS, (_HEADER, "share.step.at - share.step.ended_at")),
            WrongFilling(TOO_MUCH, (_HEADER, "share.step.ended_at - own.received.at")),
            WrongFilling(PART, (_HEADER, f"({_SECONDS}) / len(traced + traced)")),
        ),
        hints=(
            "`traceparent` has four parts. Two of them you have drawn, and the comment has the other two.",
            "The W3C writes it as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, with the trace id first. A "
            "step has a begin and an end on one clock.",
            '`f"00-{…}-{…}-01"`, and `share.step.ended_at - …`.',
        ),
        judge=judge_my_request,
    ),
)
