"""The blanks of notebook 08: CPU time for a token, and the three limits of a server."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "tokens_per_second" in event.fields]


def near(got: Any, right: float) -> bool:
    return isinstance(got, int | float) and abs(got - right) <= 0.02 * right


# ---- 08.b1: CPU time for a token -------------------------------------------------------------------------------------

IN_SECONDS = "these are seconds for each token: a microsecond is a millionth of a second, so multiply by a million"
PER_SECOND = "it was divided by the seconds of the load, which gives cores; for a token, divide by the tokens"
TURNED = "it is upside down: seconds on a core come above the line, and what they are shared by below it"
NOT_OF_THE_TIME = (
    "the seconds on a core don't yet tell how busy it was: compare them with the seconds for which was counted"
)
OTHER_COST = "the microseconds are not those of the API servers: `in_api_servers` divided by `tokens`, times a million"
OTHER_BUSY = "that is not the engine core's share: its seconds on a core, divided by the seconds for which was counted"


def judge_work(result: ProcessResult) -> Verdict:
    row = _told(result)[0]
    spent, tokens, seconds = row["us_per_token"]["api"] * row["tokens"] / 1e6, row["tokens"], row["seconds"]
    us, busy, engine = row["us"], row["engine_busy"], row["cpu"]["engine-0"]
    expected = f"{1e6 * spent / tokens:.0f} µs for each token, and {engine / seconds:.2f} cores in the engine core"
    measured = f"{us:.4g} and {busy:.4g} with one API server"
    findings = (
        (near(us, spent / tokens), IN_SECONDS),
        (near(us, 1e6 * spent / seconds) or near(us, spent / seconds), PER_SECOND),
        (near(us, tokens / spent) or near(us, tokens / spent / 1e6), TURNED),
        (not near(us, 1e6 * spent / tokens), OTHER_COST),
        (near(busy, engine / seconds), ""),
        (near(busy, engine) or near(busy, engine / tokens) or near(busy, 1e6 * engine / tokens), NOT_OF_THE_TIME),
        (near(busy, seconds / engine), TURNED),
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
        (near(got[0], 1000 / row_ms(row)), STEPS),
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


ROWS, MILLISECONDS = 128, 8.0  # of the cell


def row_ms(row: dict[str, Any]) -> float:
    return float(row.get("milliseconds", MILLISECONDS))


def right_limits(row: dict[str, Any]) -> list[float]:
    cost = row["us_per_token"]
    return [
        ROWS / row_ms(row) * 1000,
        row["api_servers"] / cost["loop"] * 1e6,
        row["cores_left"] / (cost["api"] + cost["engine"] + cost["client"]) * 1e6,
    ]


_US, _BUSY = "1e6 * in_api_servers / tokens", 'cpu["engine-0"] / seconds'
_PACE, _LOOPS = "ROWS / (MILLISECONDS / 1000)", 'count * 1e6 / cost["loop"]'
_CORES = 'cores * 1e6 / (cost["api"] + cost["engine"] + cost["client"])'

BLANKS = (
    Blank(
        name="08.b1",
        cell="work",
        task="compute the API servers' microseconds for each token, and the cores that the engine core kept busy",
        right=(
            (_US, _BUSY),
            ("in_api_servers / tokens * 1_000_000", 'cpu["engine-0"] * (1 / seconds)'),
        ),
        wrong=(
            WrongFilling(IN_SECONDS, ("in_api_servers / tokens", _BUSY)),
            WrongFilling(PER_SECOND, ("in_api_servers / seconds * 1e6", _BUSY)),
            WrongFilling(TURNED, ("tokens / in_api_servers", _BUSY)),
            WrongFilling(NOT_OF_THE_TIME, (_US, 'cpu["engine-0"]')),
            WrongFilling(NOT_OF_THE_TIME, (_US, '1e6 * cpu["engine-0"] / tokens')),
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
)
