"""Questions of notebook 04 that can be asked again with other numbers."""

from collections import Counter
from math import gcd
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.shares import shares
from lab_support.notebook.moves.again import Again, Found, Given
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import changed

# ---- 04.2: who is woken ----------------------------------------------------------------------------------------------

WAYS = {
    "in accept(), without a timeout": "listening_socket.setblocking(True)",
    "in accept(), with a timeout of an hour": "listening_socket.settimeout(3600)",
    "in epoll": "poll.register(listening_socket, select.EPOLLIN)",
    "in select()": "poll.close()",
}
WOKEN = """\
import select
from lab_support.notebook.script import emit, listeners

def wait(listening_socket, take):
    poll = select.epoll()
    {way}
    while True:
        {poll}
        take(listening_socket)

emit(listeners({processes}, wait, connections=100))
"""


def a_way_and_a_number(random: Random) -> Given:
    return {"processes": random.choice((3, 5, 6, 8)), "way": random.choice([*WAYS])}


def question_of_woken(given: Given) -> str:
    return f"{given['processes']} processes wait {given['way']}: wake-ups per connection"


def options_of_woken(given: Given) -> dict[str, str]:
    every = given["processes"]
    return {"a": "1: one is woken", "b": "2: one wins, and one more notices", "c": f"{every}: all are woken"}


def program_of_woken(given: Given) -> str:
    calls = {"in epoll": "poll.poll()", "in select()": "select.select([listening_socket], [], [])"}
    poll = calls.get(given["way"], "pass")
    return WOKEN.format(way=WAYS[given["way"]], poll=poll, processes=given["processes"])


def found_woken(result: ProcessResult, given: Given) -> Found:
    return Found(measured=result.wakeups_per_connection, shown=lambda: shares(result))


def letter_of_woken(woken: float, given: Given) -> str:
    return "a" if woken < 1.5 else "b" if woken < 2.5 else "c"


# ---- 04.4: who has those that stay -----------------------------------------------------------------------------------

CLIENTS = 60


def workers_and_a_pattern(random: Random) -> Given:
    return {"workers": random.choice((3, 4, 5, 6)), "every": random.choice((2, 3, 4))}


def question_of_staying(given: Given) -> str:
    ordinal = {2: "second", 3: "third", 4: "fourth"}[given["every"]]
    return (
        f"{given['workers']} workers take turns, {CLIENTS} clients connect, and every {ordinal} one stays: "
        "how many of those that stay the busiest worker has"
    )


def options_of_staying(given: Given) -> dict[str, str]:
    """An even share, a half, all of them; if a half is an even share, twice that."""
    counts = _counts(given)
    texts = (f"{counts[0]}: each worker has as many", f"{counts[1]}: a few workers have them all",
             f"{counts[2]}: one worker has them all")  # fmt: skip
    return dict(zip("abc", texts, strict=True))


def _counts(given: Given) -> tuple[int, int, int]:
    """Those that stay, shared by all workers, by some, and by one."""
    stay, workers = CLIENTS // given["every"], given["workers"]
    shared_by = workers // gcd(workers, given["every"])
    some = shared_by if 1 < shared_by < workers else max(2, workers // 2)
    return stay // workers, stay // some, stay


def program_of_staying(given: Given) -> str:
    return changed(
        blank("04.b2").reference,
        "crew(4, serve)",
        f"crew({given['workers']}, serve)",
        "range(40)",
        f"range({CLIENTS})",
        "number % 2 == 0",
        f"number % {given['every']} == 0",
    )


def found_staying(result: ProcessResult, given: Given) -> Found:
    stay: Counter[str] = Counter()
    for event in result.events:
        stay[event.fields["by"]] += bool(event.fields["stays"])
    counts: dict[str, dict[str, Any]] = {
        f"worker {number}": {"": stay[f"worker {number}"]} for number in range(1, given["workers"] + 1)
    }
    most = max(stay.values())
    finding = f"Of {sum(stay.values())} that stay, the busiest worker has {most}"
    return Found(measured=most, shown=lambda: bars(counts, unit="connections that stay", finding=finding))


def letter_of_staying(most: int, given: Given) -> str:
    evenly, by_some, by_one = _counts(given)
    if most >= (by_some + by_one) / 2:
        return "c"
    return "b" if most >= (evenly + by_some) / 2 else "a"


AGAIN = (
    Again(
        "04.2",
        draw=a_way_and_a_number,
        words=question_of_woken,
        options=options_of_woken,
        program=program_of_woken,
        find=found_woken,
        letter=letter_of_woken,
        timeout=30,
    ),
    Again(
        "04.4",
        draw=workers_and_a_pattern,
        words=question_of_staying,
        options=options_of_staying,
        program=program_of_staying,
        find=found_staying,
        letter=letter_of_staying,
        timeout=30,
    ),
)
