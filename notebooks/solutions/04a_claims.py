"""The claims of appendix 04a, each with an experiment in which it is false."""

from collections import Counter
from random import choices
from statistics import mean
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

FULL, SPOKEN, HASHED, NESTED = (cell("04a", name) for name in ("full", "spoken", "hashed", "nested"))

_LONG_FIRST = changed(FULL, "for backlog in (8, 512):", "for backlog in (512, 512):")
_SHORT_AFTER = changed(FULL, "for backlog in (8, 512):", "for backlog in (8, 8):")
_ROOM = changed(SPOKEN, "backlog=4", "backlog=64")
_NEVER_SPEAKS = changed(SPOKEN, "        if speaks:\n", "        if False:\n")
_MANY = changed(
    HASHED, "workers.connect(clients)", "workers.connect(400)", "max(got.values()) / clients", "max(got.values()) / 400"
)
_FEW = changed(
    HASHED, "workers.connect(clients)", "workers.connect(8)", "max(got.values()) / clients", "max(got.values()) / 8"
)
_DIRECT = changed(
    NESTED,
    "        outer.poll()\n        if inner.poll(0):\n            take(listening_socket)\n",
    "        inner.poll()\n        take(listening_socket)\n",
)
_ASLEEP_IN_ACCEPT = changed(
    NESTED,
    "    while True:\n        inherited.poll()\n        take(listening_socket)\n",
    "    listening_socket.setblocking(True)\n    while True:\n        take(listening_socket)\n",
)


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events]


def _how(result: ProcessResult, how: str) -> dict[str, Any]:
    return next(fields for fields in _told(result) if fields["how"] == how)


def _part(result: ProcessResult, clients: int) -> float:
    return mean(fields["busiest"] for fields in _told(result) if fields["clients"] == clients)


def _by_a_die() -> float:
    return mean(4 * max(Counter(choices(range(4), k=8)).values()) / 8 for _ in range(40))


def _idle(result: ProcessResult) -> float:
    """The share of the looks that found nobody in the first queue."""
    looks = _told(result)[0]["looks"]
    return sum(waiting == 0 for _, waiting in looks) / len(looks)


BROKEN_CLAIMS = (
    BrokenClaim(
        "The queue never holds more than its backlog and one",
        FULL,
        changed(FULL, "backlog=backlog) as workers", "backlog=8 * backlog) as workers"),
        lambda result: _told(result)[0]["most"] <= _told(result)[0]["backlog"] + 1,
    ),
    BrokenClaim(
        "With a short backlog, some clients never get an answer",
        FULL,
        _LONG_FIRST,
        lambda result: _told(result)[0]["silent"] > 10,
    ),
    BrokenClaim("With a long one, all do", FULL, _SHORT_AFTER, lambda result: _told(result)[1]["silent"] == 0),
    BrokenClaim(
        "Meanwhile the queue was empty most of the time", FULL, _LONG_FIRST, lambda result: _idle(result) > 0.5
    ),
    BrokenClaim(
        "The kernel counts each overflow",
        FULL,
        _LONG_FIRST,
        lambda result: _told(result)[0]["overflows"] is None or _told(result)[0]["overflows"] > 20,
    ),
    BrokenClaim(
        "Clients without an answer are in no queue",
        SPOKEN,
        _ROOM,
        lambda result: _told(result)[0]["waiting"] == [0] and _told(result)[0]["no answer"] > 3,
    ),
    BrokenClaim(
        "For them the kernel had sent SYN cookies", SPOKEN, _ROOM, lambda result: _told(result)[0]["cookies"] > 3
    ),
    BrokenClaim(
        "If they say a word, all get an answer",
        SPOKEN,
        _NEVER_SPEAKS,
        lambda result: _told(result)[1]["no answer"] == 0,
    ),
    BrokenClaim(
        "Of eight clients, a hash gives one worker far more than its part",
        HASHED,
        _MANY,
        lambda result: _part(result, 8) > 1.4,
    ),
    BrokenClaim("Of 400, it does not", HASHED, _FEW, lambda result: _part(result, 400) < 1.4),
    BrokenClaim("A die does no better", HASHED, _MANY, lambda result: abs(_by_a_die() - _part(result, 8)) < 0.35),
    BrokenClaim(
        "Within another set, EPOLLEXCLUSIVE wakes everybody",
        NESTED,
        _DIRECT,
        lambda result: _how(result, "within_another")["wakeups_per_connection"] > 2.5,
    ),
    BrokenClaim(
        "On one inherited set, about two are woken",
        NESTED,
        _ASLEEP_IN_ACCEPT,
        lambda result: 1.5 < _how(result, "one_for_all")["wakeups_per_connection"] < 3,
    ),
    nothing_left("No process of this appendix is left", SPOKEN),
)
