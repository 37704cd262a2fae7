"""The claims of notebook 04, each with an experiment in which it is false."""

import shutil
from collections import Counter
from statistics import median
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

WAITING, SLEEPING, EXCLUSIVE, IN_ORDER, REARMED = (
    cell("04", name) for name in ("waiting", "sleeping", "exclusive", "in_order", "rearmed")
)
BURST, STAYING, HANGING, CROWDED = (cell("04", name) for name in ("burst", "staying", "hanging", "crowded"))
MIGRATED, STRATEGIES = cell("04", "migrated"), cell("04", "strategies")

# ---- four wait, one client comes

_FLAG = " | select.EPOLLEXCLUSIVE"
_LATE = (
    "import select\n",
    "import select, time\n",
    "        poll.poll()\n",
    "        poll.poll()\n        time.sleep(0.002)\n",
)
_ONE_WOKEN = changed(WAITING, "select.EPOLLIN)", f"select.EPOLLIN{_FLAG})")
_IN_TURN = changed(
    WAITING,
    "    poll = select.epoll()\n    poll.register(listening_socket, select.EPOLLIN)\n",
    "    listening_socket.setblocking(True)\n",
    "        poll.poll()\n",
    "",
)
_LOSERS_TRY = changed(WAITING, *_LATE[:3], f"{_LATE[3]}        take(listening_socket)\n")  # and once more below it
_WATCHED = cell("04", "watched")
_NOT_WATCHED = changed(_WATCHED, "--strace ", "")
if not shutil.which("strace"):  # what strace does: it makes the winner late
    _WATCHED = changed(_NOT_WATCHED, *_LATE)
_TIMEOUT_IN_BOTH = changed(SLEEPING, "setblocking(True)", "settimeout(30)")
_NO_TIMEOUT = changed(SLEEPING, "settimeout(60)", "settimeout(None)")
_ONE_TAKES_ALL = changed(
    SLEEPING,
    "    listening_socket.setblocking(True)\n    while True:\n",
    "    import select\n    poll = select.epoll()\n"
    "    poll.register(listening_socket, select.EPOLLIN | select.EPOLLEXCLUSIVE)\n    while poll.poll():\n",
)

# ---- one is woken

_ALL_WOKEN = changed(EXCLUSIVE, _FLAG, "")
_NOBODY_STOPPED = changed(IN_ORDER, "        workers.stop(*stopped) if stopped else None\n", "")
_REARMED_FOR_ALL = changed(REARMED, _FLAG, "")

# ---- a burst, and lives of different length

_ONE_BY_ONE = changed(
    BURST,
    "backlog=512)",
    "backlog=1)",
    "    await server.serve_forever()\n",
    "    listening_socket.listen(512)\n    await server.serve_forever()\n",
)
_ASYNCIO_TWICE = changed(BURST, "loop.run(serve(", "asyncio.run(serve(")
_UVLOOP_TWICE = changed(BURST, "loop.run(serve(", "uvloop.run(serve(")
_NEVER_BEHIND = changed(
    STAYING,
    "    while poll.register(listening_socket, flags) is None and poll.poll():\n",
    "    poll.register(listening_socket, flags)\n    while poll.poll():\n",
    "        poll.unregister(listening_socket)  ",
    "        pass  ",
)
_FOUR_AND_FOUR = changed(STAYING, "stays=number % 2 == 0", "stays=number % 8 < 4")

# ---- what becomes of the clients

_OWN = 'reuseport=sockets == "own sockets") as workers:\n'
_HANGS, _KILLED = f"{_OWN}        workers.stop(1)\n", f"{_OWN}        workers.stop()\n"
_HANGS_OWN = changed(HANGING, _HANGS, _HANGS.replace(_OWN, "reuseport=True) as workers:\n"))
_HANGS_ONE = changed(HANGING, _HANGS, _HANGS.replace(_OWN, "reuseport=False) as workers:\n"))
_KILLED_OWN = changed(HANGING, _KILLED, _KILLED.replace(_OWN, "reuseport=True) as workers:\n"))
_KILLED_ONE = changed(HANGING, _KILLED, _KILLED.replace(_OWN, "reuseport=False) as workers:\n"))
_NOBODY_KILLED = changed(CROWDED, "    workers.kill(1)\n", "")
_LONGER_QUEUE = changed(CROWDED, "backlog=4", "backlog=64")
_ANOTHER_PORT = changed(CROWDED, ", port=ours.port", "")
_NOT_MIGRATED = changed(MIGRATED, "tcp_migrate_req=1", "tcp_migrate_req=0")
_FIVE = '("shared", "exclusive", "least-loaded", "reuseport", "handoff")'


def _in_disguise(named: str, is_really: str) -> str:
    """The strategies `named`, each of them really another one; the others are left out, as each start takes seconds."""
    return changed(STRATEGIES, _FIVE, named, "live_server(accept=accept,", f'live_server(accept="{is_really}",')


_SHARED_FOR_EXCLUSIVE = _in_disguise('("shared", "exclusive")', "shared")
_EXCLUSIVE_FOR_SHARED = _in_disguise('("shared",)', "exclusive")
_OWN_FOR_SHARED = _in_disguise('("shared",)', "reuseport")
_SHARED_FOR_OWN = _in_disguise('("reuseport",)', "shared")
_ONE_TAKES_NONE = changed(
    STRATEGIES, _FIVE, '("exclusive",)', "        woken = kernel", "        workers.stop(1)\n        woken = kernel"
)


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events]


def _failed(result: ProcessResult) -> int:
    return sum(row["accept() failed"] for row in result.measured["processes"])


def _way(result: ProcessResult, way: str) -> dict[str, Any]:
    return next(fields for fields in _told(result) if fields["way"] == way)


def _turns(result: ProcessResult) -> int:
    taken = [row["accepted"] for row in _way(result, "in_accept")["processes"]]
    return max(taken) - min(taken)


def _firsts(result: ProcessResult) -> list[str]:
    return [max(fields["got"], key=fields["got"].get) for fields in _told(result)]


def _rounds(result: ProcessResult, loop: str) -> list[dict[str, Any]]:
    return [fields for fields in _told(result) if fields["loop"] == loop]


def _busiest(result: ProcessResult, loop: str) -> float:
    return median(max(fields["by"].values()) for fields in _rounds(result, loop))


def _half(result: ProcessResult, loop: str) -> float:
    return median(fields["ms"][32] for fields in _rounds(result, loop))


def _most(result: ProcessResult, only_long: bool) -> int:
    return max(Counter(each["by"] for each in _told(result) if each["stays"] >= only_long).values())


def _row(result: ProcessResult, row: str) -> dict[str, int]:
    return next(fields for fields in _told(result) if fields.get("row") == row)


def _queued(result: ProcessResult) -> list[int]:
    return next(fields["queued"] for fields in reversed(_told(result)) if "queued" in fields)


def _part(result: ProcessResult, way: str) -> float:
    """The busiest API server's, of its fair one; 0 where that way was left out."""
    return max((max(fields["counts"].values()) / 50 for fields in _told(result) if fields["accept"] == way), default=0)


def _woken(result: ProcessResult, *ways: str) -> float:
    """The most of these strategies."""
    return max(fields["woken"] for fields in _told(result) if fields["accept"] in ways)


def _lost(result: ProcessResult, *ways: str) -> int:
    """Of these strategies together."""
    return sum(fields["lost"] for fields in _told(result) if fields["accept"] in ways)


_HANG, _OWN_HANG = (f"{which}, one of four workers hangs" for which in ("one socket", "own sockets"))
_KILL, _OWN_KILL = (f"{which}, 200 wait, a worker is killed" for which in ("one socket", "own sockets"))

BROKEN_CLAIMS = (
    BrokenClaim(
        "With epoll, each connection wakes all four processes",
        WAITING,
        _ONE_WOKEN,
        lambda result: result.wakeups_per_connection > 2.5,
    ),
    BrokenClaim(
        "The kernel does not share the connections evenly", WAITING, _IN_TURN, lambda result: max(result.shares) > 0.3
    ),
    BrokenClaim(
        "Of the wake-ups for nothing, next to none shows as a failed accept()",
        WAITING,
        _LOSERS_TRY,
        lambda result: _failed(result) < 0.4 * 400 * (result.wakeups_per_connection - 1),
    ),
    BrokenClaim(
        "Under strace, losers fail in accept() by the dozen",
        _WATCHED,
        _NOT_WATCHED,
        lambda result: _failed(result) > 170,
    ),
    BrokenClaim(
        "Asleep in accept(), one process is woken for each connection",
        SLEEPING,
        _TIMEOUT_IN_BOTH,
        lambda result: _way(result, "in_accept")["wakeups_per_connection"] < 2.5,
    ),
    BrokenClaim("They take turns", SLEEPING, _ONE_TAKES_ALL, lambda result: _turns(result) <= 20),
    BrokenClaim(
        "With a timeout, all of them are woken",
        SLEEPING,
        _NO_TIMEOUT,
        lambda result: _way(result, "with_a_timeout")["wakeups_per_connection"] > 2.5,
    ),
    BrokenClaim(
        "With EPOLLEXCLUSIVE, a connection wakes one process",
        EXCLUSIVE,
        _ALL_WOKEN,
        lambda result: result.wakeups_per_connection < 2.5,
    ),
    BrokenClaim("And it is always the same one", EXCLUSIVE, REARMED, lambda result: max(result.shares) > 0.65),
    BrokenClaim(
        "The first that registered and sleeps gets them all",
        IN_ORDER,
        _NOBODY_STOPPED,
        lambda result: _firsts(result) == ["worker 1", "worker 2", "worker 3"],
    ),
    BrokenClaim(
        "Re-armed after each connection, one process is woken",
        REARMED,
        _REARMED_FOR_ALL,
        lambda result: result.wakeups_per_connection < 2.5,
    ),
    BrokenClaim("And the shares are even", REARMED, EXCLUSIVE, lambda result: max(result.shares) < 0.5),
    BrokenClaim(
        "One asyncio server takes far more than its quarter",
        BURST,
        _ONE_BY_ONE,
        lambda result: _busiest(result, "asyncio") > 25,
    ),
    BrokenClaim("On uvloop they share it", BURST, _ASYNCIO_TWICE, lambda result: _busiest(result, "uvloop") < 25),
    BrokenClaim(
        "Greed costs the clients time",
        BURST,
        _UVLOOP_TWICE,
        lambda result: _half(result, "asyncio") / _half(result, "uvloop") > 1.2,
    ),
    BrokenClaim(
        "Each worker took as many connections as the others",
        STAYING,
        _NEVER_BEHIND,
        lambda result: _most(result, False) <= 12,
    ),
    BrokenClaim(
        "The long ones are not shared evenly", STAYING, _FOUR_AND_FOUR, lambda result: _most(result, True) >= 8
    ),
    BrokenClaim(
        "Beside a worker that hangs, its siblings answer all of one queue",
        HANGING,
        _HANGS_OWN,
        lambda result: _row(result, _HANG)["answered"] == 100,
    ),
    BrokenClaim(
        "With own sockets, the hash goes on sending clients to it",
        HANGING,
        _HANGS_ONE,
        lambda result: _row(result, _OWN_HANG)["no answer"] > 5,
    ),
    BrokenClaim(
        "In one queue, a killed worker loses none that wait",
        HANGING,
        _KILLED_OWN,
        lambda result: _row(result, _KILL)["answered"] == 200,
    ),
    BrokenClaim(
        "With own sockets, its queue is lost, and no more",
        HANGING,
        _KILLED_ONE,
        lambda result: _row(result, _OWN_KILL)["cut off"] == _queued(result)[0],
    ),
    BrokenClaim(
        "What it has accepted dies with it",
        CROWDED,
        _NOBODY_KILLED,
        lambda result: _row(result, "one socket, a worker is killed that has accepted")["cut off"] == 20,
    ),
    BrokenClaim(
        "A queue with a backlog of 4 holds five", CROWDED, _LONGER_QUEUE, lambda result: _queued(result) == [5]
    ),
    BrokenClaim(
        "Some that found it full never hear of it",
        CROWDED,
        _LONGER_QUEUE,
        lambda result: _row(result, "one socket, a backlog of 4, and 20 come at once")["no answer"] > 3,
    ),
    BrokenClaim(
        "A second program takes a part of the clients",
        CROWDED,
        _ANOTHER_PORT,
        lambda result: _row(result, "own sockets, and a second program does the same")["a stranger"] > 10,
    ),
    BrokenClaim(
        "With tcp_migrate_req, the dead worker's queue is served by others",
        MIGRATED,
        _NOT_MIGRATED,
        lambda result: _told(result)[-1].get("cut off") == 0,
    ),
    BrokenClaim(
        "EPOLLEXCLUSIVE spares the real server wake-ups",
        STRATEGIES,
        _SHARED_FOR_EXCLUSIVE,
        lambda result: _woken(result, "shared") - _woken(result, "exclusive", "least-loaded") > 1.2,
    ),
    BrokenClaim(
        "shared: the busiest has more than its part",
        STRATEGIES,
        _EXCLUSIVE_FOR_SHARED,
        lambda result: _part(result, "shared") > 1.04,
    ),
    BrokenClaim(
        "Taking turns, counting and dealing out share evenly",
        STRATEGIES,
        _ONE_TAKES_NONE,
        lambda result: max(_part(result, way) for way in ("exclusive", "least-loaded", "handoff")) < 1.15,
    ),
    BrokenClaim(
        "Who waits in one queue survives a kill here, too",
        STRATEGIES,
        _OWN_FOR_SHARED,
        lambda result: _lost(result, "shared", "exclusive", "least-loaded", "handoff") == 0,
    ),
    BrokenClaim(
        "With own sockets, the dead one's queue is lost",
        STRATEGIES,
        _SHARED_FOR_OWN,
        lambda result: _lost(result, "reuseport") > 5,
    ),
    nothing_left("No process of this notebook's cells is left", IN_ORDER),
)
