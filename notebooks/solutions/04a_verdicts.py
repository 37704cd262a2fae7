"""How the predictions of appendix 04a are judged, drawn and claimed."""

from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.full_queue import Crowd, full_queue
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "xray" not in event.fields]


# ---- a lock of your own ----------------------------------------------------------------------------------------------


def cost_of_a_lock(locked: ProcessResult) -> Found:
    by_way = locked.by("way")
    queue, lock = (by_way[way]["wakeups_per_connection"] for way in ("in_accept", "behind_a_lock"))
    measured = {"the kernel's queue": {"": queue}, "a lock of one's own": {"": lock}}
    finding = f"A connection takes {queue:.1f} wake-ups without a lock, and {lock:.1f} behind one"
    return Found(
        measured=(queue, lock),
        shown=lambda: bars(measured, unit="wake-ups per connection (n = 200 each)", finding=finding),
        claims=(
            Claim("In the kernel's queue, a connection wakes one process", queue < 1.5, queue),
            Claim("Behind a lock, it wakes two: one for the client, one for the lock", 1.5 < lock < 3, lock),
        ),
    )


def letter_of_lock(woken: tuple[float, float]) -> str:
    queue, lock = woken
    if queue > 2.5:
        return "d"
    return "a" if lock < 1.5 else "b" if lock < 3 else "c"


ALL, SOME, NONE = "all are answered", "some have no answer", "none has an answer after 2 seconds"
FATES = {
    "no lock, worker 1 hangs": ALL,
    "no lock, worker 1 is killed": ALL,
    "a semaphore, worker 1 hangs": NONE,
    "a semaphore, worker 1 is killed": NONE,
    "a lock on a file, worker 1 hangs": NONE,
    "a lock on a file, worker 1 is killed": ALL,
}


def fates(holders: ProcessResult) -> Found:
    by_row = holders.by("row")
    answered = {row: by_row[row]["answered"] for row in FATES}
    rows = {row: ALL if count == 20 else SOME if count else NONE for row, count in answered.items()}
    return Found(rows=rows, seen={row: f"{count} of 20 answered" for row, count in answered.items()})


# ---- what can be counted ---------------------------------------------------------------------------------------------


def failed_calls(counted: ProcessResult, watched: ProcessResult) -> Found:
    by_pause = counted.by("pause")
    as_it_was, paused = (_failed(by_pause[pause]["processes"]) for pause in (0, 0.005))
    traced = _failed(watched.measured["processes"])
    no_strace = "" if watched.trace and watched.trace.calls else "strace did not watch: is it installed?"
    measured = {"as it was": {"": as_it_was}, "with a pause": {"": paused}}
    measured |= {} if no_strace else {"under strace": {"": traced}}
    finding = f"As it was, {as_it_was} of 300 fail in accept(); with a pause, {paused}"
    return Found(
        measured=(as_it_was, paused),
        shown=lambda: bars(measured, unit="failed calls of accept() (n = 300)", finding=finding),
        claims=(
            Claim("With a pause before accept(), most losers fail in it", paused > 150, f"{paused} of 300"),
            Claim("Under strace, losers fail in accept() by the dozen", traced > 150, f"{traced} of 300", no_strace),
        ),
    )


def _failed(processes: list[dict[str, int]]) -> int:
    return sum(row["accept() failed"] for row in processes)


def letter_of_failed(failed: tuple[int, int]) -> str:
    many, many_with_a_pause = (each > 150 for each in failed)
    return {(True, True): "a", (True, False): "b", (False, False): "c", (False, True): "d"}[many, many_with_a_pause]


# ---- a full queue ----------------------------------------------------------------------------------------------------


def a_full_queue(full: ProcessResult) -> Found:
    short, long = _told(full)
    began = next((at for at, waiting in short["samples"] if waiting), 0.0)
    samples = [(at - began, waiting) for at, waiting in short["samples"] if at >= began]
    crowd = Crowd(60, short["backlog"], samples, short["answered"])
    first_second = [waiting for at, waiting in samples if at <= 1.0]
    idle = sum(waiting == 0 for waiting in first_second) / len(first_second)
    at_its_limit = sum(waiting >= short["backlog"] for waiting in first_second) / len(first_second)
    most = max(waiting for _, waiting in short["samples"])
    answered = [len(each["answered"]) for each in (short, long)]
    return Found(
        measured=(idle, at_its_limit),
        shown=lambda: full_queue(crowd),
        claims=(
            Claim("The queue holds at most its backlog and one", most <= short["backlog"] + 1, most),
            Claim(
                "With a backlog of 8, some have no answer after 3 seconds; with 512, all have",
                answered[0] < 50 and answered[1] == 60,
                f"answered: {answered[0]} and {answered[1]} of 60",
            ),
            Claim("For most of the first second, the queue is empty", idle > 0.5, f"{idle:.0%} of the samples"),
        ),
    )


def letter_of_queue(shares: tuple[float, float]) -> str:
    idle, at_its_limit = shares
    return "c" if idle > 0.5 else "a" if at_its_limit > 0.5 else "b"


def a_word(spoken: ProcessResult) -> Found:
    silent, speaking = _told(spoken)
    setting = Path("/proc/sys/net/ipv4/tcp_syncookies")
    off = "" if setting.exists() and setting.read_text().strip() != "0" else "SYN cookies are off or hidden here"
    measured = {
        name: {"answered": each["answered"], "no answer": each["no answer"]}
        for name, each in (("nobody speaks", silent), ("each says a word", speaking))
    }
    unheard = silent["no answer"]
    finding = f"{unheard} of 20 had no answer; with a word, {speaking['no answer']}"
    return Found(
        measured=(unheard, speaking["no answer"]),
        shown=lambda: bars(measured, unit="clients (n = 20)", finding=finding),
        claims=(
            Claim("Clients without an answer are in no queue", silent["waiting"] == [0] and unheard > 3, unheard),
            Claim("For them the kernel had sent SYN cookies", silent["cookies"] > 3, silent["cookies"], off),
            Claim("If they say a word, all get an answer", speaking["no answer"] == 0, speaking["answered"]),
        ),
    )


def letter_of_word(without: tuple[int, int]) -> str:
    """By those without an answer in the two rounds, in which none speaks, and in which each does."""
    silent, speaking = without
    if speaking == 0 and silent:
        return "c"
    return "b" if silent - speaking >= 3 else "a"


# ---- a hash and few clients ------------------------------------------------------------------------------------------


def a_hash(hashed: ProcessResult) -> Found:
    most = {n: [each["most"] for each in _told(hashed) if each["clients"] == n] for n in (8, 400)}
    share = {n: mean(counts) * 4 / n for n, counts in most.items()}
    by_lot = {n: fair_most(n) * 4 / n for n in most}
    measured = {
        f"{n} clients ({len(counts)} rounds)": {
            "by the hash": [4 * mean(counts[at : at + 5]) / n for at in range(0, len(counts), 5)],
            "by lot": by_lot[n],
        }
        for n, counts in most.items()
    }
    off = max(abs(share[n] - by_lot[n]) for n in most)
    return Found(
        shown=lambda: bars(
            measured,
            unit="busiest worker: times an even share\n(dots: means of 5 rounds)",
            finding=f"Of eight clients, the busiest worker has {share[8]:.1f} times an even share",
        ),
        claims=(
            Claim("Of eight clients, a hash gives one worker far more than an even share", share[8] > 1.4, share[8]),
            Claim("Of 400, it does not", share[400] < 1.4, share[400]),
            Claim("A draw by lot does no better", off < 0.35, f"{off:.2f} apart at most"),
        ),
    )


@cache
def fair_most(clients: int) -> float:
    """The mean count of the busiest of four workers, if each client is drawn at random."""
    chance = Random(4)
    return mean(max(Counter(chance.choices(range(4), k=clients)).values()) for _ in range(1000))


# ---- sets within sets, and a queue that moves ------------------------------------------------------------------------


def nested_sets(nested: ProcessResult) -> Found:
    by_way = nested.by("how")
    within, one = (by_way[how]["wakeups_per_connection"] for how in ("within_another", "one_for_all"))
    measured = {"an exclusive set within another": {"": within}, "one set for all four": {"": one}}
    finding = f"A set within another wakes {within:.1f} for a connection, one set for all {one:.1f}"
    return Found(
        measured=(within, one),
        shown=lambda: bars(measured, unit="wake-ups per connection (n = 200 each)", finding=finding),
        claims=(
            Claim("Within another set, EPOLLEXCLUSIVE wakes everybody", within > 2.5, within),
            Claim("On one inherited set, about two are woken", 1.5 < one < 3, one),
        ),
    )


def letter_of_nested(woken: tuple[float, float]) -> str:
    within, one = woken
    if within < 2.5:
        return "a" if one < 2.5 else "b"
    return "c" if one > 3 else "d"


def a_queue_that_moves(migrated: ProcessResult) -> Found:
    moved = migrated.told
    words = Claim(
        "With tcp_migrate_req, the dead worker's queue is served by others",
        moved.get("cut off") == 0,
        moved.get("cut off"),
        moved["refused"],
    )
    if moved["refused"]:
        return Found(claims=(words,))
    rows = tuple((what, str(count)) for what, count in (
        ("waited in the dead worker's queue", moved["queued"][0]), ("answered", moved["answered"]),
        ("cut off", moved["cut off"])))  # fmt: skip
    return Found(shown=Table(("with tcp_migrate_req", "of 200 clients"), rows), claims=(words,))


JUDGES = (
    Judge(
        "04a.1",
        find=cost_of_a_lock,
        letter=letter_of_lock,
        reached={"a": (1, 1), "b": (1, 2), "c": (1, 4), "d": (4, 1)},
    ),
    Judge("04a.2", find=fates, expected=FATES, row_words="{row}: {option}"),
    Judge(
        "04a.3",
        find=failed_calls,
        letter=letter_of_failed,
        reached={"a": (290, 300), "b": (290, 10), "c": (20, 30), "d": (20, 290)},
    ),
    Judge(
        "04a.4",
        find=a_full_queue,
        letter=letter_of_queue,
        reached={"a": (0.1, 0.8), "b": (0.3, 0.2), "c": (0.8, 0.1)},
    ),
    Judge("04a.5", find=a_word, letter=letter_of_word, reached={"a": (10, 10), "b": (10, 5), "c": (10, 0)}),
    Judge("04a.hash", find=a_hash),
    Judge(
        "04a.6",
        find=nested_sets,
        letter=letter_of_nested,
        reached={"a": (1, 1), "b": (1, 4), "c": (4, 4), "d": (4, 2)},
    ),
    Judge("04a.migrated", find=a_queue_that_moves),
)

LEDGER = (
    Tested(
        sentence=7,
        claims=(
            "In the kernel's queue, a connection wakes one process",
            "Behind a lock, it wakes two: one for the client, one for the lock",
            "a semaphore, worker 1 hangs: none has an answer after 2 seconds",
        ),
        finding="true of processes asleep in accept(): a lock costs a second wake-up, and its holder can stop all",
        otherwise="on your machine, a lock and the kernel's queue cost other wake-ups than on ours",
    ),
)
