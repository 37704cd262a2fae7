"""The blanks of notebook 08: CPU time for a token, the three limits of a server, and the price of a start."""

from statistics import median
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed
from lab_support.notebook.recordings.one_process import samples


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "tokens_per_second" in event.fields]


def near(got: Any, right: float) -> bool:
    return isinstance(got, int | float) and abs(got - right) <= 0.02 * right


# ---- 08.b1: CPU time for a token -------------------------------------------------------------------------------------

SECONDS_EACH = "these are seconds for each token: a microsecond is a millionth of a second, so multiply by a million"
PER_SECOND = "it was divided by the seconds of the load, which gives cores; for a token, divide by the tokens"
UPSIDE_DOWN = "it is upside down: seconds on a core come above the line, and what they are shared by below it"
NOT_OF_THE_TIME = (
    "the seconds on a core don't yet tell how many cores were busy: compare them with the seconds for which was counted"
)
ONLY_ENGINE = "these are the engine core's: `in_api_servers` has the seconds of all API servers together"
OTHER_COST = "the microseconds are not those of the API servers: `in_api_servers` divided by `tokens`, times a million"
OTHER_BUSY = (
    "these are not the API servers' cores: their seconds on a core, divided by the seconds for which was counted"
)


def judge_work(result: ProcessResult) -> Verdict:
    row = _told(result)[-1]
    spent, tokens, seconds = row["us_per_token"]["api"] * row["tokens"] / 1e6, row["tokens"], row["seconds"]
    us, busy, engine = row["us"], row["cores_busy"], row["cpu"]["engine-0"]
    expected = f"{1e6 * spent / tokens:.0f} µs for each token, and {spent / seconds:.2f} cores"
    measured = f"{us:.4g} and {busy:.4g} in the last row"
    findings = (
        (near(us, spent / tokens), SECONDS_EACH),
        (near(us, 1e6 * spent / seconds) or near(us, spent / seconds), PER_SECOND),
        (near(us, tokens / spent) or near(us, tokens / spent / 1e6), UPSIDE_DOWN),
        (not near(us, 1e6 * spent / tokens), OTHER_COST),
        (near(busy, spent / seconds), ""),
        (near(busy, spent) or near(busy, spent / tokens) or near(busy, 1e6 * spent / tokens), NOT_OF_THE_TIME),
        (near(busy, engine / seconds), ONLY_ENGINE),
        (near(busy, seconds / spent), UPSIDE_DOWN),
        (True, OTHER_BUSY),
    )
    cause = next(cause for found, cause in findings if found)
    return failed(measured, expected, cause) if cause else passed(measured)


# ---- 08.b2: three limits ---------------------------------------------------------------------------------------------

STEPS = "that is the number of steps in a second; each step makes a token for every row"
MILLIS = "the pace is off by a thousand: the step's time is in milliseconds"
ONE_LOOP = "that is one API server's limit: several have as many event loops, and `count` says how many"
NOT_THE_LOOP = (
    "the API servers' limit is not that of their event loops: their number, divided by cost['loop'], times a million"
)
ONLY_API = "the cores also work for the engine core and the clients: add up all three"
ONE_CORE = "that is one core's limit: there are several, and `cores` says how many are left"
LOOP_TWICE = "the event loops are a part of `api`: added to it, they count twice"
OTHER_PACE = "that is not the engine's pace: the rows of a step, divided by the seconds it takes"
OTHER_CORES = "that is not what the cores can do: cores divided by the CPU time of all for one token, times a million"


def judge_costs(result: ProcessResult) -> Verdict:
    row = _told(result)[-1]
    got, right = row["limits"], right_limits(row)
    cost, number, cores = row["us_per_token"], row["api_servers"], row["cores_left"]
    cpu = cost["api"] + cost["engine"] + cost["client"]
    measured, expected = (", ".join(f"{each:,.0f}" for each in limits) for limits in (got, right))
    findings = (
        (near(got[0], 1000 / row["milliseconds"]), STEPS),
        (near(got[0], right[0] / 1000) or near(got[0], right[0] / 1e6), MILLIS),
        (not near(got[0], right[0]), OTHER_PACE),
        (near(got[1], right[1] / number), ONE_LOOP),
        (not near(got[1], right[1]), NOT_THE_LOOP),
        (near(got[2], right[2]), ""),
        (near(got[2], cores * 1e6 / (cpu + cost["loop"])), LOOP_TWICE),
        (near(got[2], right[2] / cores), ONE_CORE),
        (near(got[2], cores * 1e6 / cost["api"]) or near(got[2], cores * 1e6 / cost["loop"]), ONLY_API),
        (True, OTHER_CORES),
    )
    cause = next(cause for found, cause in findings if found)
    return failed(measured, f"{expected} tokens/s", cause) if cause else passed(f"{measured} tokens/s")


def right_limits(row: dict[str, Any]) -> list[float]:
    cost = row["us_per_token"]
    return [
        row["rows"] / row["milliseconds"] * 1000,
        row["api_servers"] / cost["loop"] * 1e6,
        row["cores_left"] / (cost["api"] + cost["engine"] + cost["client"]) * 1e6,
    ]


_US, _BUSY = "1e6 * in_api_servers / tokens", "in_api_servers / seconds"
_PACE, _LOOPS = "ROWS / (MILLISECONDS / 1000)", 'count * 1e6 / cost["loop"]'
_CORES = 'cores * 1e6 / (cost["api"] + cost["engine"] + cost["client"])'


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
        (near(got, wait) and near(spread, share), ""),  # first: by chance a wrong formula may give the right figure
        (not near(got, wait) and (near(got, 1 / wait) or near(got, work / start)), TURNED),
        (not near(got, wait) and near(got, start), ALWAYS_BUSY),
        (not near(got, wait) and near(got, start / work), NOT_A_SECOND),
        (not near(got, wait), OTHER_WAIT),
        (near(spread, share / 1e6), IN_SECONDS),
        (near(spread, 1e6 * start / tokens), THIS_LOAD),
        (near(spread, 3600 * share), AN_HOUR_OF_RATE),
        (near(spread, 1e6 * work / tokens) or near(spread, share * work / start), OF_THE_WORK),
        (True, OTHER_SHARE),
    )
    cause = next(cause for found, cause in findings if found)
    return failed(measured, expected, cause) if cause else passed(measured)


_WAIT, _SHARE = "start / (work / seconds)", "1e6 * start / (3600 * tokens / seconds)"

# ---- 08.b4: where the time of a token is spent -----------------------------------------------------------------------

NO_MICROSECONDS = "those are seconds: multiply by a million for microseconds"
TURNED_ROUND = "the two are turned round: `kernel_share` is the part of the CPU time that was spent in the kernel"
THE_WHOLE = "its own code has what the kernel leaves of the CPU time, and not all of it"
NOT_EACH = "those are the microseconds of all tokens together: `tokens` of them were streamed"
A_SHARE = "that is a share of the time, and no time: multiply it by the CPU time"
OTHER_PARTS = "those are not the two parts: `cpu`, times the part's share, divided by the tokens, times a million"


def judge_compared(result: ProcessResult) -> Verdict:
    told = result.by("front_end")["1 process in Rust"]
    rows = [(each["cpu"], each["kernel_share"], each["tokens"]) for each in samples("1 process in Rust")]
    kernel = median(1e6 * cpu * share / tokens for cpu, share, tokens in rows)
    own = median(1e6 * cpu * (1 - share) / tokens for cpu, share, tokens in rows)
    whole = median(1e6 * cpu / tokens for cpu, _, tokens in rows)
    in_kernel, in_own = told["in_kernel"], told["in_own_code"]
    measured, expected = f"{in_kernel:.4g} and {in_own:.4g}", f"{kernel:.1f} and {own:.1f} µs for the process in Rust"
    findings = (
        (near(in_kernel, kernel) and near(in_own, own), ""),
        (near(in_kernel, own) and near(in_own, kernel), TURNED_ROUND),
        (near(1e6 * in_kernel, kernel) or near(1e6 * in_own, own), NO_MICROSECONDS),
        (near(in_kernel, kernel) and near(in_own, whole), THE_WHOLE),
        (in_kernel <= 1 or in_own <= 1, A_SHARE),
        (in_kernel > 1000 * kernel or in_own > 1000 * own, NOT_EACH),
        (True, OTHER_PARTS),
    )
    cause = next(cause for found, cause in findings if found)
    return failed(measured, expected, cause) if cause else passed(measured)


_KERNEL, _OWN = "1e6 * cpu * kernel_share / tokens", "1e6 * cpu * (1 - kernel_share) / tokens"

BLANKS = (
    Blank(
        name="08.b1",
        cell="work",
        task="compute the API servers' microseconds for each token, and the cores that they kept busy",
        right=(
            (_US, _BUSY),
            ("in_api_servers / tokens * 1_000_000", "1 / seconds * in_api_servers"),
        ),
        wrong=(
            WrongFilling(SECONDS_EACH, ("in_api_servers / tokens", _BUSY)),
            WrongFilling(PER_SECOND, ("in_api_servers / seconds * 1e6", _BUSY)),
            WrongFilling(UPSIDE_DOWN, ("tokens / in_api_servers", _BUSY)),
            WrongFilling(NOT_OF_THE_TIME, (_US, "in_api_servers")),
            WrongFilling(ONLY_ENGINE, (_US, 'cpu["engine-0"] / seconds')),
        ),
        hints=(
            "Seconds on a core, shared by so many tokens: how long is that for one? And in microseconds?",
            "A process that was on a core for all of the `seconds` kept one core busy.",
            f"`{_US}`, and `{_BUSY}`",
        ),
        judge=judge_work,
    ),
    Blank(
        name="08.b2",
        cell="costs",
        task="compute the three limits in tokens per second: the engine's pace, the API servers, all cores",
        right=(
            (_PACE, _LOOPS, _CORES),
            (
                "1000 * ROWS / MILLISECONDS",
                'count / (cost["loop"] * 1e-6)',
                'cores / sum(cost[kind] for kind in ("api", "engine", "client")) * 1e6',
            ),
        ),
        wrong=(
            WrongFilling(STEPS, ("1000 / MILLISECONDS", _LOOPS, _CORES)),
            WrongFilling(MILLIS, ("ROWS / MILLISECONDS", _LOOPS, _CORES)),
            WrongFilling(ONE_LOOP, (_PACE, '1e6 / cost["loop"]', _CORES)),
            WrongFilling(ONLY_API, (_PACE, _LOOPS, 'cores * 1e6 / cost["api"]')),
            WrongFilling(
                ONE_CORE, (_PACE, _LOOPS, '1e6 / (cost["api"] + cost["engine"] + cost["client"]) * cores / cores')
            ),
        ),
        hints=(
            "Each step makes one token for every row. How many seconds does it take?",
            "An event loop that works all the time makes 1,000,000 / cost['loop'] tokens a second. And two of them?",
            f"`{_PACE}`, `{_LOOPS}`, and `{_CORES}`",
        ),
        judge=judge_costs,
    ),
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
    Blank(
        name="08.b4",
        cell="compared",
        task="compute the microseconds for each token in the kernel, and in the front end's own code",
        right=(
            (_KERNEL, _OWN),
            ("kernel_share * cpu / tokens * 1_000_000", "(cpu - cpu * kernel_share) / tokens * 1_000_000"),
        ),
        wrong=(
            WrongFilling(NO_MICROSECONDS, ("cpu * kernel_share / tokens", "cpu * (1 - kernel_share) / tokens")),
            WrongFilling(TURNED_ROUND, (_OWN, _KERNEL)),
            WrongFilling(THE_WHOLE, (_KERNEL, "1e6 * cpu / tokens")),
            WrongFilling(A_SHARE, ("kernel_share", "1 - kernel_share")),
            WrongFilling(NOT_EACH, ("1e6 * cpu * kernel_share", "1e6 * cpu * (1 - kernel_share)")),
        ),
        hints=(
            "How many microseconds of CPU time does one token take in all? `kernel_share` of them are the kernel's.",
            "What is not spent in the kernel is spent in its own code: `1 - kernel_share`.",
            f"`{_KERNEL}`, and `{_OWN}`",
        ),
        judge=judge_compared,
    ),
)
