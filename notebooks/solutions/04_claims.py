"""The claims of notebook 04, each with an experiment in which it is false."""

from typing import Any

from lab_support.instruments.fairness import fair_draw, gini
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left
from lab_support.notebook.moves.verdicts import broken_claim

WAITING, EXCLUSIVE, BURST, CROWDED = (cell("04", name) for name in ("waiting", "exclusive", "burst", "crowded"))
SLEEPING, STAYING, TAKEN, HANGING = (blank(f"04.b{number}").reference for number in range(1, 5))
STRATEGIES = cell("04", "strategies")

# ---- four wait, one client comes

_FLAG = " | select.EPOLLEXCLUSIVE"
_ONE_WOKEN = changed(WAITING, "select.EPOLLIN)", f"select.EPOLLIN{_FLAG})")
_TIMEOUT_IN_BOTH, _TIMEOUT_IN_NONE = (
    filled(cell("04", "sleeping"), (each, each)) for each in ("settimeout(60)", "setblocking(True)")
)

# ---- one is woken

_ALL_WOKEN = changed(
    EXCLUSIVE,
    _FLAG,
    "",
    "import os, select\n",
    "import os, select\nfrom contextlib import suppress\n",
    "        with listening_socket.accept()[0] as connection:",
    "        with suppress(BlockingIOError), listening_socket.accept()[0] as connection:",
)
_NOBODY_STOPPED = changed(EXCLUSIVE, "        workers.stop(stopped + 1)", "        pass")
_FOUR_AND_FOUR = changed(STAYING, "stays=number % 2 == 0", "stays=number % 8 < 4")

# ---- a burst

_BOTH_ON_ASYNCIO = changed(TAKEN, "loop.run(serve(", "asyncio.run(serve(")
_ALL_ON_ASYNCIO, _ALL_ON_UVLOOP = (
    changed(BURST, "loop.run(serve(", f"{loop}.run(serve(") for loop in ("asyncio", "uvloop")
)

# ---- what becomes of the clients

_OWN = 'reuseport=sockets == "own sockets") as workers:\n'
_HANGS, _KILLED = f"{_OWN}        os.kill(", f"{_OWN}        workers.stop()"
_HANGS_OWN, _HANGS_ONE, _KILLED_OWN, _KILLED_ONE = (
    changed(HANGING, at, at.replace(_OWN, f"reuseport={own}) as workers:\n"))
    for at in (_HANGS, _KILLED)
    for own in (True, False)
)
_NOBODY_KILLED = changed(CROWDED, "    workers.kill(1)\n", "")
_LONGER_QUEUE = changed(CROWDED, "backlog=4", "backlog=64")
_ANOTHER_PORT = changed(CROWDED, ", port=ours.port", "")

# ---- five ways

_FIVE = '("shared", "exclusive", "least-loaded", "reuseport", "handoff")'


def _in_disguise(named: str, is_really: str) -> str:
    """The strategies `named`, each of them really another one; the others are left out, as each start takes seconds."""
    return changed(STRATEGIES, _FIVE, named, "live_server(accept=accept,", f'live_server(accept="{is_really}",')


_SHARED_FOR_EXCLUSIVE = _in_disguise('("shared", "exclusive")', "shared")
_SHARED_FOR_OWN = _in_disguise('("reuseport",)', "shared")
_ONE_TAKES_NONE = changed(
    STRATEGIES, _FIVE, '("exclusive",)', "        woken = kernel", "        workers.stop(1)\n        woken = kernel"
)


def _of_row(row: str, option: str, experiment: str, broken: str) -> BrokenClaim:
    """A row of the table: in `broken`, its clients fare otherwise."""
    outcome = {"some are cut off": "cut off", "some get the wrong program": "a stranger"}.get(option, "no answer")

    def holds(result: ProcessResult) -> bool:
        found = result.by("row")[row]
        lost = {what for what in ("cut off", "no answer", "a stranger") if found[what]}
        return not lost if option == "all are answered" else outcome in lost

    return BrokenClaim(f"{row}: {option}", experiment, broken, holds)


def _ways(result: ProcessResult) -> dict[str, dict[str, Any]]:
    return result.by("accept")


def _spared(result: ProcessResult) -> float:
    ways = _ways(result)
    return ways["shared"]["woken"] - max(each["woken"] for name, each in ways.items() if name in _TURNS)


_TURNS = ("exclusive", "least-loaded")


def _uneven(result: ProcessResult) -> float:
    counts = [[*each["counts"].values()] for name, each in _ways(result).items() if name in (*_TURNS, "handoff")]
    return max(map(gini, counts))


def _lost(result: ProcessResult) -> dict[str, int]:
    return {name: each["lost"] for name, each in _ways(result).items()}


def _twice(result: ProcessResult) -> list[ProcessResult]:
    return [result, result]


BROKEN_CLAIMS = (
    broken_claim("04.1", "With epoll, each connection wakes all four processes", WAITING, _ONE_WOKEN),
    broken_claim(
        "04.2", "Asleep in accept(), one process is woken for each connection", SLEEPING, _TIMEOUT_IN_BOTH, given=_twice
    ),
    broken_claim("04.2", "With a timeout, all of them are woken", SLEEPING, _TIMEOUT_IN_NONE, given=_twice),
    broken_claim("04.3", "With EPOLLEXCLUSIVE, a connection wakes one process", EXCLUSIVE, _ALL_WOKEN),
    broken_claim("04.3", "The first that registered and is awake gets them all", EXCLUSIVE, _NOBODY_STOPPED),
    broken_claim("04.4", "Each takes as many connections, and two have all that stay", STAYING, _FOUR_AND_FOUR),
    broken_claim(
        "04.5", "asyncio has emptied the queue before it answers, and uvloop has taken one", TAKEN, _BOTH_ON_ASYNCIO
    ),
    broken_claim("04.6", "With work, asyncio's busiest has more than by chance", BURST, _ALL_ON_UVLOOP),
    broken_claim("04.6", "With work, uvloop's busiest has no more than by chance", BURST, _ALL_ON_ASYNCIO),
    _of_row("one socket, one of four workers hangs", "all are answered", HANGING, _HANGS_OWN),
    _of_row("own sockets, one of four workers hangs", "some have no answer after 3 seconds", HANGING, _HANGS_ONE),
    _of_row("one socket, 200 wait, a worker is killed", "all are answered", HANGING, _KILLED_OWN),
    _of_row("own sockets, 200 wait, a worker is killed", "some are cut off", HANGING, _KILLED_ONE),
    _of_row("one socket, a worker is killed that has accepted", "some are cut off", CROWDED, _NOBODY_KILLED),
    _of_row(
        "one socket, a backlog of 4, and 20 come at once",
        "some have no answer after 3 seconds",
        CROWDED,
        _LONGER_QUEUE,
    ),
    _of_row("own sockets, and a second program does the same", "some get the wrong program", CROWDED, _ANOTHER_PORT),
    BrokenClaim(
        "EPOLLEXCLUSIVE spares the real server wake-ups",
        STRATEGIES,
        _SHARED_FOR_EXCLUSIVE,
        lambda result: _spared(result) > 1.2,
    ),
    BrokenClaim(
        "Turns, counting and dealing out are more even than chance",
        STRATEGIES,
        _ONE_TAKES_NONE,
        lambda result: _uneven(result) < fair_draw(4, 200).most,
    ),
    BrokenClaim(
        "A kill loses only those in a queue of the dead one's own",
        STRATEGIES,
        _SHARED_FOR_OWN,
        lambda result: _lost(result)["reuseport"] > 5 and sum(_lost(result).values()) == _lost(result)["reuseport"],
    ),
    nothing_left("No process of this notebook's cells is left", WAITING),
)
