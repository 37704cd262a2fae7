"""The blanks of notebook 08: a start against the work."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed


def near(got: Any, right: float) -> bool:
    return isinstance(got, int | float) and abs(got - right) <= 0.02 * right


TURNED = "it is upside down: the start's CPU time comes above the line, and what each second of work takes below it"
ALWAYS_BUSY = (
    "the start's CPU time alone would be right if the tokens kept a core busy all the time: they take `work` in "
    "`seconds`"
)
NOT_A_SECOND = "`work` was done in `seconds`, not in one second: divide by the cores that it kept busy"
OTHER_WAIT = "those are not the seconds: the start's CPU time, divided by the CPU time that a second of the load takes"
THIS_LOAD = "the start was spread over the tokens of this load alone: an hour has 3600 / seconds times as many"
IN_SECONDS = "those are seconds for each token: multiply by a million for microseconds"
AN_HOUR_OF_RATE = (
    "that is spread over one second's tokens: an hour has 3,600 seconds, and `tokens / seconds` come in each"
)
OF_THE_WORK = "that is the cost of the work: it is the start's CPU time that is to be spread over the tokens"
OTHER_SHARE = "those are not the microseconds: the start's, divided by all the tokens that come in an hour"


def judge_repaid(result: ProcessResult) -> Verdict:
    [row] = (event.fields for event in result.events)
    start, work, tokens, seconds = row["start"], row["cpu"]["api-0"], row["tokens"], row["seconds"]
    wait, share = start / work * seconds, 1e6 * start / tokens * seconds / 3600
    got, spread = row["as_long"], row["in_an_hour"]
    measured, expected = f"{got:.4g} s and {spread:.4g} µs", f"{wait:.4g} s and {share:.4g} µs"
    findings = (
        (near(got, 1 / wait) or near(got, work / start), TURNED),
        (near(got, start), ALWAYS_BUSY),
        (near(got, start / work), NOT_A_SECOND),
        (not near(got, wait), OTHER_WAIT),
        (near(spread, share), ""),
        (near(spread, share / 1e6), IN_SECONDS),
        (near(spread, 1e6 * start / tokens), THIS_LOAD),
        (near(spread, 3600 * share), AN_HOUR_OF_RATE),
        (near(spread, 1e6 * work / tokens) or near(spread, share * work / start), OF_THE_WORK),
        (True, OTHER_SHARE),
    )
    cause = next(cause for found, cause in findings if found)
    return failed(measured, expected, cause) if cause else passed(measured)


_WAIT, _SHARE = "start / (work / seconds)", "1e6 * start / (3600 * tokens / seconds)"

BLANKS = (
    Blank(
        name="08.b3",
        cell="repaid",
        task="compute the seconds of load that repay the start, and its microseconds for each token of an hour",
        right=(
            (_WAIT, _SHARE),
            ("seconds * start / work", "start / tokens * seconds / 3600 * 1_000_000"),
        ),
        wrong=(
            WrongFilling(TURNED, ("work / seconds / start", _SHARE)),
            WrongFilling(ALWAYS_BUSY, ("start", _SHARE)),
            WrongFilling(NOT_A_SECOND, ("start / work", _SHARE)),
            WrongFilling(THIS_LOAD, (_WAIT, "1e6 * start / tokens")),
            WrongFilling(IN_SECONDS, (_WAIT, "start / (3600 * tokens / seconds)")),
            WrongFilling(AN_HOUR_OF_RATE, (_WAIT, "1e6 * start / (tokens / seconds)")),
        ),
        hints=(
            "Each second of this load takes `work / seconds` seconds on a core. How often does that go into the start?",
            "In an hour come `3600 * tokens / seconds` tokens. They share the start among them.",
            f"`{_WAIT}`, and `{_SHARE}`",
        ),
        judge=judge_repaid,
    ),
)
