"""08.2, should: the number of API servers, computed before anything is started."""

import math
from collections.abc import Callable
from typing import Any

from lab_support.instruments.ceilings import Costs, api_servers_needed
from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

HOW_MANY = '''\
def api_servers(pace, loop_us, all_us, cores):
    """The fewest API servers with which they are not the limit.

    pace: tokens per second that the engine makes. cores: those of the machine
    loop_us: microseconds of an API server's event loop for each token. all_us: of all processes together
    """
    return 1
'''


def _computed(text: str) -> str:
    return changed(HOW_MANY, "    return 1\n", text)


HOW_MANY_BY_CEILING = "import math\n\n\n" + _computed(
    """\
    tokens = min(pace, cores * 1e6 / all_us)
    return max(1, math.ceil(tokens * loop_us / 1e6))
"""
)
HOW_MANY_BY_TRYING = _computed(
    """\
    others = min(pace, cores / all_us * 1_000_000)
    number = 1
    while number * 1_000_000 / loop_us < others:
        number += 1
    return number
"""
)
HOW_MANY_BY_SHARES = _computed(
    """\
    busy = min(pace * loop_us / 1e6, cores * loop_us / all_us)   # event loops that never rest
    return int(busy) + (busy > int(busy)) or 1
"""
)

CORES = "the cores were left out: with too few of them, the pace is never reached, and further API servers are idle"
TOO_FEW = "it was rounded down or to the nearest: then the API servers are the limit; a part of one needs a whole one"
EVEN = "where it comes out even, as many are enough: one more is idle"
ALL = "an API server is full when its event loop is: the time of the other processes is not spent in it"
AS_MANY_AS_CORES = "the cores limit the tokens, not the number of API servers: compare tokens per second first"
OTHERS = "take the least of the other two limits, and ask how many event loops that many tokens keep busy"


def _least(pace: float, loop_us: float, all_us: float, cores: float) -> float:
    return min(pace, cores * 1e6 / all_us)


_FORMULAS: dict[str, Callable[..., int]] = {
    CORES: lambda pace, loop_us, all_us, cores: math.ceil(pace * loop_us / 1e6),
    AS_MANY_AS_CORES: lambda pace, loop_us, all_us, cores: min(cores, math.ceil(pace * loop_us / 1e6)),
    ALL: lambda pace, loop_us, all_us, cores: math.ceil(_least(pace, loop_us, all_us, cores) * all_us / 1e6),
    EVEN: lambda pace, loop_us, all_us, cores: int(_least(pace, loop_us, all_us, cores) * loop_us / 1e6) + 1,
}
"""Wrong ways of computing it, by the words that explain them."""

HOW_MANY_WRONG = (
    Wrong(CORES, "import math\n\n\n" + _computed("    return max(1, math.ceil(pace * loop_us / 1e6))\n")),
    Wrong(
        AS_MANY_AS_CORES,
        "import math\n\n\n" + _computed("    return min(cores, math.ceil(pace * loop_us / 1e6)) or 1\n"),
    ),
    Wrong(TOO_FEW, _computed("    return max(1, int(min(pace, cores * 1e6 / all_us) * loop_us / 1e6))\n")),
    Wrong(TOO_FEW, _computed("    return max(1, round(min(pace, cores * 1e6 / all_us) * loop_us / 1e6))\n")),
    Wrong(EVEN, _computed("    return int(min(pace, cores * 1e6 / all_us) * loop_us / 1e6) + 1\n")),
    Wrong(
        ALL,
        "import math\n\n\n"
        + _computed("    return max(1, math.ceil(min(pace, cores * 1e6 / all_us) * all_us / 1e6))\n"),
    ),
)

CASES = (
    (9_000, 14, 30, 16),
    (120_000, 14, 40, 16),
    (60_000, 50, 90, 16),
    (40_000, 50, 75, 64),
    (28_000, 52, 70, 2),
    (51_000, 52, 80, 2),
    (300_000, 40, 64, 8),
    (70_000, 20, 100, 4),
    (1_500, 60, 400, 1),
    (52_000, 30, 45, 32),
    (100_000, 40, 80, 32),
    (22_000, 55, 110, 8),
)
"""Pace, microseconds of a loop and of all processes, cores."""

ASK = """
import answer
from lab_support.notebook.script import emit, inputs

emit(measured={"numbers": [answer.api_servers(*case) for case in inputs()["cases"]]})
"""


def right(pace: float, loop_us: float, all_us: float, cores: float) -> int:
    costs = Costs(loop_us, loop_us, all_us - loop_us, 0.0)
    return api_servers_needed(pace, lambda _: costs, cores)


def judge_how_many(attempt: Attempt) -> Verdict:
    numbers = attempt.measure(ASK, inputs={"cases": CASES})["numbers"]
    wanted = [right(*case) for case in CASES]
    if numbers == wanted:
        return passed(f"right for {len(CASES)} of {len(CASES)} servers")
    case, got, expected = next(each for each in zip(CASES, numbers, wanted, strict=True) if each[1] != each[2])
    pace, loop_us, all_us, cores = case
    asked = f"{pace:,} tokens/s, {loop_us} of {all_us} µs in the event loop, {cores} cores"
    return failed(f"{got} for {asked}", f"{expected}", _cause(numbers, wanted))


def _cause(numbers: list[Any], wanted: list[int]) -> str:
    for cause, formula in _FORMULAS.items():
        if numbers == [max(1, formula(*case)) for case in CASES]:
            return cause
    pairs = list(zip(numbers, wanted, strict=True))
    few = all(isinstance(got, int) and got <= right for got, right in pairs)
    return TOO_FEW if few and numbers != [1] * len(numbers) else OTHERS


EXERCISES = (
    Exercise(
        name="08.2",
        kind="should",
        task="compute the number of API servers from a pace, two costs and the cores",
        skeleton=HOW_MANY,
        reference=HOW_MANY_BY_CEILING,
        also_right=(HOW_MANY_BY_TRYING, HOW_MANY_BY_SHARES),
        wrong=HOW_MANY_WRONG,
        hints=(
            "How many tokens per second come, if the API servers are not the limit? Two limits are left.",
            "An event loop is full at `1e6 / loop_us` tokens per second.",
            "The least of `pace` and `cores * 1e6 / all_us`, times `loop_us / 1e6`, rounded up.",
        ),
        judge=judge_how_many,
    ),
)
