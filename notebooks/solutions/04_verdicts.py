"""How the predictions of notebook 04 are judged, drawn and claimed."""

import os
from collections import Counter
from typing import Any

from lab_support.instruments.fairness import fair_draw, gini
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.burst import burst_panels, busiest
from lab_support.notebook.figures.evenness import Way, evenness
from lab_support.notebook.figures.left_in_queue import left_in_queue
from lab_support.notebook.figures.shares import shares
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge

WORKERS = tuple(f"worker {number}" for number in range(1, 5))


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "xray" not in event.fields]


# ---- four wait, one client comes -------------------------------------------------------------------------------------


def wake_ups_with_epoll(waiting: ProcessResult) -> Found:
    woken = waiting.wakeups_per_connection
    return Found(
        measured=woken,
        shown=lambda: shares(waiting),
        claims=(Claim("With epoll, each connection wakes all four processes", woken > 2.5, woken),),
    )


def letter_of_wake_ups(woken: float) -> str:
    return "a" if woken < 0.5 else "b" if woken < 1.5 else "c" if woken < 3 else "d"


def wake_ups_in_accept(sleeping: ProcessResult, waiting: ProcessResult) -> Found:
    by_way = sleeping.by("way")
    blocking, timed = (by_way[way]["wakeups_per_connection"] for way in ("in_accept", "with_a_timeout"))
    measured = {
        "asleep in accept()": {"": blocking},
        "the same, with a timeout": {"": timed},
        "asleep in epoll": {"": waiting.wakeups_per_connection},
    }
    finding = "A timeout wakes all four again" if timed > 2.5 > blocking else "It depends on the way to wait"
    return Found(
        measured=(blocking, timed),
        shown=lambda: bars(measured, unit="wake-ups per connection\n(n = 200, 200, 400)", finding=finding),
        claims=(
            Claim("Asleep in accept(), one process is woken for each connection", blocking < 2.5, blocking),
            Claim("With a timeout, all of them are woken", timed > 2.5, timed),
        ),
    )


def letter_of_timeout(woken: tuple[float, float]) -> str:
    few, again_few = (each < 2.5 for each in woken)
    return {(True, True): "a", (True, False): "b", (False, False): "c", (False, True): "d"}[few, again_few]


# ---- one is woken ----------------------------------------------------------------------------------------------------


def with_the_flag(exclusive: ProcessResult) -> Found:
    rounds = _told(exclusive)
    counts = [[each["got"].get(worker, 0) for worker in WORKERS] for each in rounds]
    firsts = [max(each["got"], key=each["got"].get) for each in rounds]
    least = min(max(each) for each in counts)
    woken = max(each["woken"] for each in rounds)
    return Found(
        measured=counts[0],
        shown=lambda: _by_round(counts),
        claims=(
            Claim("With EPOLLEXCLUSIVE, a connection wakes one process", woken < 2.5, woken),
            Claim(
                "The first that registered and is awake gets them all",
                firsts == ["worker 1", "worker 2", "worker 3"] and least >= 80,
                [f"{worker}: {max(each)} of 100" for worker, each in zip(firsts, counts, strict=True)],
            ),
        ),
    )


def _by_round(counts: list[list[int]]) -> Picture:
    names = ("nobody is stopped", "worker 1 is stopped", "workers 1 and 2 are stopped")
    measured = {name: dict(zip(WORKERS, each, strict=True)) for name, each in zip(names, counts, strict=True)}
    finding = f"One of four has {max(counts[0])} of 100; if it is stopped, the next one has {max(counts[1])}"
    return bars(measured, unit="connections (n = 100 each)", finding=finding)


def letter_of_shares(counts: list[int]) -> str:
    """b: as even as turns. c: even enough for a fair draw. d: one has none. a: one has nearly all."""
    if max(counts) >= 0.9 * sum(counts):
        return "a"
    if max(counts) - min(counts) <= 4:
        return "b"
    return "d" if min(counts) == 0 else "c" if max(counts) <= fair_draw(4, 100).busiest else ""


def who_stays(staying: ProcessResult) -> Found:
    told = _told(staying)
    taken = Counter(each["by"] for each in told)
    stay = Counter(each["by"] for each in told if each["stays"])
    measured = {
        worker: {"connections taken": taken[worker], "of them, those that stay": stay[worker]} for worker in WORKERS
    }
    finding = f"Each took {max(taken.values())}; those that stay: {', '.join(str(stay[each]) for each in WORKERS)}"
    return Found(
        measured=max(stay.values()),
        shown=lambda: bars(measured, unit="connections (n = 40)", finding=finding),
        claims=(
            Claim(
                "Each takes as many connections, and two have all that stay",
                max(taken.values()) <= 12 and max(stay.values()) >= 8,
                {"taken": [taken[each] for each in WORKERS], "stay": [stay[each] for each in WORKERS]},
            ),
        ),
    )


def letter_of_staying(most: int) -> str:
    return {5: "a", 6: "b", 7: "b", 10: "c"}.get(most, "d" if most > 15 else "")


# ---- a burst ---------------------------------------------------------------------------------------------------------


def taken_before_the_first(taken: ProcessResult) -> Found:
    left = {name: [each["left"] for each in _told(taken) if each["loop"] == name] for name in ("asyncio", "uvloop")}
    firsts = {name: 64 - counts[0] for name, counts in left.items()}
    finding = f"At its first answer, asyncio has taken {firsts['asyncio']} of 64, uvloop {firsts['uvloop']}"
    return Found(
        measured=(firsts["asyncio"], firsts["uvloop"]),
        shown=lambda: left_in_queue(left, finding=finding),
        claims=(
            Claim(
                "asyncio has emptied the queue before it answers, and uvloop has taken one",
                firsts["asyncio"] > 32 > firsts["uvloop"],
                firsts,
            ),
        ),
    )


def letter_of_taken(taken: tuple[int, int]) -> str:
    asyncio_all, uvloop_all = (each > 32 for each in taken)
    return {(True, False): "a", (True, True): "b", (False, True): "c", (False, False): "d"}[asyncio_all, uvloop_all]


MOST_BY_CHANCE = fair_draw(4, 64).busiest
"""Of 64 clients, the busiest of four has at most so many in 99 of 100 fair draws."""


def shares_of_a_burst(burst: ProcessResult) -> Found:
    rounds = {
        loop: {f"{work} ms of work": _rounds(burst, loop, work) for work in (3, 0)} for loop in ("asyncio", "uvloop")
    }
    greedy, modest, idle = (
        busiest(_rounds(burst, loop, work)) for loop, work in (("asyncio", 3), ("uvloop", 3), ("uvloop", 0))
    )
    finding = f"With work, asyncio's busiest worker has {greedy:.0f} of 64 on average, and uvloop's {modest:.0f}"
    chance = f"on average; a fair draw: at most {MOST_BY_CHANCE}"
    return Found(
        measured=(modest, idle),
        shown=lambda: burst_panels(rounds, finding=finding),
        claims=(
            Claim(
                "With work, asyncio's busiest has more than by chance",
                greedy > MOST_BY_CHANCE,
                f"{greedy:.0f} {chance}",
                a_core_for_each(),
            ),
            Claim(
                "With work, uvloop's busiest has no more than by chance",
                modest <= MOST_BY_CHANCE,
                f"{modest:.0f} {chance}",
            ),
        ),
    )


def a_core_for_each() -> str:
    """Why a burst on asyncio can't be judged here, or ""."""
    cores = len(os.sched_getaffinity(0))
    return f"on {cores} cores, the four workers may empty the queue side by side" if cores >= 4 else ""


def _rounds(burst: ProcessResult, loop: str, work: int) -> list[dict[str, int]]:
    return [each["by"] for each in _told(burst) if (each["loop"], each["work_ms"]) == (loop, work)]


def letter_of_burst(busiest_of: tuple[float, float]) -> str:
    """With work and without: more than chance gives, or not."""
    with_work, without = (each > MOST_BY_CHANCE for each in busiest_of)
    return {(False, False): "a", (True, True): "b", (False, True): "c", (True, False): "d"}[with_work, without]


# ---- what becomes of the clients -------------------------------------------------------------------------------------

OUTCOMES = {"a stranger": "some get the wrong program", "cut off": "some are cut off",
            "no answer": "some have no answer after 3 seconds"}  # fmt: skip
ALL = "all are answered"
FATES = {
    "one socket, one of four workers hangs": ALL,
    "own sockets, one of four workers hangs": OUTCOMES["no answer"],
    "one socket, 200 wait, a worker is killed": ALL,
    "own sockets, 200 wait, a worker is killed": OUTCOMES["cut off"],
    "one socket, a worker is killed that has accepted": OUTCOMES["cut off"],
    "one socket, a backlog of 4, and 20 come at once": OUTCOMES["no answer"],
    "own sockets, and a second program does the same": OUTCOMES["a stranger"],
}


def fates(hanging: ProcessResult, crowded: ProcessResult) -> Found:
    by_row = hanging.by("row") | crowded.by("row")
    rows = {row: fate_of(by_row[row]) for row in FATES}
    seen = {row: ", ".join(f"{count} {what}" for what, count in _counts(by_row[row]).items()) for row in FATES}
    return Found(rows=rows, seen=seen)


def fate_of(row: dict[str, Any]) -> str:
    return next((words for what, words in OUTCOMES.items() if row[what]), ALL)


def _counts(row: dict[str, Any]) -> dict[str, int]:
    return {what: count for what, count in row.items() if count and what != "row"}


# ---- five ways -------------------------------------------------------------------------------------------------------


def five_ways(strategies: ProcessResult) -> Found:
    by_way = strategies.by("accept")
    ways = {name: Way(each["woken"], list(each["counts"].values()), each["lost"]) for name, each in by_way.items()}
    spared = ways["shared"].woken - max(ways[name].woken for name in ("exclusive", "least-loaded"))
    uneven = max(gini(ways[name].counts) for name in ("exclusive", "least-loaded", "handoff"))
    chance = fair_draw(4, 200).most
    lost = {name: way.lost for name, way in ways.items()}
    finding = f"reuseport loses {lost['reuseport']} of 100; shared wakes {ways['shared'].woken:.1f} for a connection"
    return Found(
        shown=lambda: evenness(ways, finding=finding),
        claims=(
            Claim("EPOLLEXCLUSIVE spares the real server wake-ups", spared > 1.2, f"{spared:.1f} per connection"),
            Claim(
                "Turns, counting and dealing out are more even than chance",
                uneven < chance,
                f"Gini at most {uneven:.2f}, by chance {chance:.2f}",
            ),
            Claim(
                "A kill loses only those in a queue of the dead one's own",
                lost["reuseport"] > 5 and sum(lost.values()) == lost["reuseport"],
                lost,
            ),
        ),
    )


JUDGES = (
    Judge("04.1", find=wake_ups_with_epoll, letter=letter_of_wake_ups, reached={"a": 0.1, "b": 1, "c": 2, "d": 4}),
    Judge(
        "04.2",
        find=wake_ups_in_accept,
        letter=letter_of_timeout,
        reached={"a": (1, 1), "b": (1, 4), "c": (4, 4), "d": (4, 1)},
    ),
    Judge(
        "04.3",
        find=with_the_flag,
        letter=letter_of_shares,
        reached={"a": [100, 0, 0, 0], "b": [25, 25, 25, 25], "c": [30, 26, 24, 20], "d": [40, 31, 29, 0]},
    ),
    Judge("04.4", find=who_stays, letter=letter_of_staying, reached={"a": 5, "b": 7, "c": 10, "d": 20}),
    Judge(
        "04.5",
        find=taken_before_the_first,
        letter=letter_of_taken,
        reached={"a": (64, 1), "b": (64, 64), "c": (1, 64), "d": (1, 1)},
    ),
    Judge(
        "04.6",
        find=shares_of_a_burst,
        letter=letter_of_burst,
        reached={"a": (16, 17), "b": (40, 50), "c": (16, 50), "d": (40, 17)},
    ),
    Judge("04.7", find=fates, expected=FATES, row_words="{row}: {option}"),
    Judge("04.strategies", find=five_ways),
)

LEDGER = (
    Tested(
        sentence=6,
        claims=(
            "The first that registered and is awake gets them all",
            "Each takes as many connections, and two have all that stay",
        ),
        finding="not so: the kernel goes by the order of waiting and knows no load; turns are even, and work is not",
        otherwise="your kernel shares them in another way than ours; whether by load, these experiments don't say",
    ),
    Tested(
        sentence=8,
        claims=(
            "Asleep in accept(), one process is woken for each connection",
            "With epoll, each connection wakes all four processes",
        ),
        finding="true of processes asleep in accept(), not of epoll, on which asyncio and uvloop wait: all are woken",
        otherwise="on your machine, one of the two ways to wait wakes another number of processes than on ours",
    ),
    Tested(
        sentence=9,
        claims=("EPOLLEXCLUSIVE spares the real server wake-ups",),
        finding="spawned API servers share the queue as forked workers do, and its faults: `shared` has the herd",
        otherwise="the spawned API servers behaved otherwise than the forked workers: look at the figure's wake-ups",
    ),
    Tested(
        sentence=17,
        claims=(
            "one socket, one of four workers hangs: all are answered",
            "one socket, a worker is killed that has accepted: some are cut off",
        ),
        finding="true of those that wait in the queue, which siblings answer; what a process has accepted dies with it",
        otherwise="on your machine, a worker that hangs or dies costs other clients than on ours: see the table",
    ),
)
