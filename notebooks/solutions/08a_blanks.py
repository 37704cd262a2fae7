"""The blanks of notebook 08a: the time from which a user waits, a law, and the steps of a batch."""

from math import isclose
from statistics import median

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed

# ---- 08a.1: from the due time ----------------------------------------------------------------------------------------

STOP, ON_SCHEDULE = 1.0, 4  # seconds; clients
FROM_SENT = (
    "hardly any request was slow, though a sixth of them were due while the server stood still: it counts from the "
    "sending, which itself had to wait for the last answer"
)
FROM_BEGIN = "the times grow all through the test: they count from one time for all requests, not from each one's own"
TOO_LATE = "some answers came before their request had begun to wait: it counts from a later time than when it was due"
NOTHING = "no request was slow, though the server stood still: it counts from a time that is only taken afterwards"


def judge_the_stop(stopped: ProcessResult) -> Verdict:
    yours = stopped.told["yours"]
    slow, half = sum(each > STOP / 2 for each in yours), median(yours)
    measured = f"{slow} of {len(yours)} took longer than half of the stop; the median is {1000 * half:.0f} ms"
    findings = (
        (half > STOP / 2, FROM_BEGIN),
        (min(yours) < -0.005, TOO_LATE),
        (slow == 0, NOTHING),
        (slow <= 3 * ON_SCHEDULE, FROM_SENT),
    )
    cause = next((cause for found, cause in findings if found), "")
    expected = f"more than {3 * ON_SCHEDULE} slow ones, and a median well below the stop"
    return failed(measured, expected, cause) if cause else passed(measured)


# ---- 08a.2: the law --------------------------------------------------------------------------------------------------

RATE = "that is λ alone, the requests that end in a second: each stays for only a part of a second"
TIME = "that is W alone, the mean time of a request in the server"
SUM = "it multiplies the rate by the time of all requests together: W is the mean time of one"
OTHER = "L = λ · W: the rate is count / seconds, and the mean time of one is total / count"


def judge_the_law(little: ProcessResult) -> Verdict:
    told = little.by("client")["stays"]
    by_law, seconds, count, total = (told[name] for name in ("by_law", "seconds", "count", "total"))
    measured = f"{by_law:.2f}, and {told['present']:.1f} are running or waiting"
    if isclose(by_law, total / seconds, rel_tol=0.02):
        return passed(measured)
    wrong = {RATE: count / seconds, TIME: total / count, SUM: count * total / seconds}
    cause = next((cause for cause, value in wrong.items() if isclose(by_law, value, rel_tol=0.02)), OTHER)
    return failed(measured, f"{total / seconds:.2f}, by the same counters", cause)


# ---- 08a.3: steps ----------------------------------------------------------------------------------------------------

WAITS = "static batching took more steps: a batch lasts as long as its longest answer, and the others' rows stay empty"
TOGETHER = "static batching took fewer steps: one step computes a token for each of its rows"
NO_LONGEST = "continuous batching took fewer steps: nobody waits for the longest answer of a batch"
TOO_FEW = "continuous batching took more steps: a step computes one token for each of eight rows at most"


def judge_the_steps(batched: ProcessResult) -> Verdict:
    by_batching = batched.by("batching")
    off = {name: found["steps"] / max(1e-9, found["expected"]) for name, found in by_batching.items()}
    measured = "; ".join(
        f"{name}: computed {found['expected']:.0f}, measured {found['steps']:.0f}"
        for name, found in by_batching.items()
    )
    findings = (
        (off["static"] > 1.18, WAITS),
        (off["static"] < 0.9, TOGETHER),
        (off["continuous"] < 0.97, NO_LONGEST),
        (off["continuous"] > 1.5, TOO_FEW),
    )
    cause = next((cause for found, cause in findings if found), "")
    expected = "static as measured, and continuous not above it, nor far below"
    return failed(measured, expected, cause) if cause else passed(measured)


_STATIC, _CONTINUOUS = "sum(max(batch) for batch in batches)", "sum(LENGTHS) / ROWS"

BLANKS = (
    Blank(
        name="08a.b1",
        cell="stopped",
        task="count each request on the schedule from the time at which its user came",
        right=(("due",), ("(begin + number * EVERY)",), ("min(due, sent)",)),
        wrong=(
            WrongFilling(FROM_SENT, ("sent",)),
            WrongFilling(FROM_SENT, ("max(due, sent)",)),
            WrongFilling(FROM_BEGIN, ("begin",)),
            WrongFilling(TOO_LATE, ("(due + EVERY)",)),
            WrongFilling(NOTHING, ("time.monotonic()",)),
        ),
        hints=(
            "A user comes when a request is due. From when on does this user wait?",
            "While the server stands still, a client sends nothing: `sent` is late. Which variable is not?",
            "`d…`, three letters",
        ),
        judge=judge_the_stop,
    ),
    Blank(
        name="08a.b2",
        cell="little",
        task="write L = λ · W by the growth of the histogram's count and sum",
        right=(("(count / seconds) * (total / count)",), ("total / seconds",), ("total * seconds**-1",)),
        wrong=(
            WrongFilling(RATE, ("count / seconds",)),
            WrongFilling(TIME, ("total / count",)),
            WrongFilling(SUM, ("count / seconds * total",)),
            WrongFilling(OTHER, ("count / total",)),
        ),
        hints=(
            "How many requests end in a second, and how long is one of them in the server, on average?",
            "λ = count / seconds, W = total / count.",
            "`(count / seconds) * (…)`. Something can be cancelled.",
        ),
        judge=judge_the_law,
    ),
    Blank(
        name="08a.b3",
        cell="batched",
        task="compute the steps of static batching, and the least number for continuous batching",
        right=(
            (_STATIC, _CONTINUOUS),
            ("sum(map(max, batches))", "sum(map(sum, batches)) / 8"),
            ("len(batches) * max(LENGTHS)", "sum(LENGTHS) // ROWS"),
        ),
        wrong=(
            WrongFilling(WAITS, (_CONTINUOUS, _CONTINUOUS)),
            WrongFilling(WAITS, ("sum(batch[-1] for batch in batches)", _CONTINUOUS)),
            WrongFilling(TOGETHER, ("sum(LENGTHS)", _CONTINUOUS)),
            WrongFilling(NO_LONGEST, (_STATIC, _STATIC)),
            WrongFilling(TOO_FEW, (_STATIC, "len(LENGTHS)")),
        ),
        hints=(
            "When does the next static batch begin? And how many tokens does a full step compute?",
            "A static batch takes as many steps as its longest answer has tokens. A full step computes ROWS tokens.",
            "`sum(max(batch) for …)` and `sum(…) / ROWS`",
        ),
        judge=judge_the_steps,
    ),
)
