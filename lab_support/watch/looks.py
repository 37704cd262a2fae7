"""Looks at a process tree, one after the other, and what has changed between two: the figures of the page.

Runs in the process that watches; it reads /proc and sock_diag, and changes nothing.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.watch.connections import Client, Connections, Queue
from lab_support.watch.members import Member, Slow, Tree


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one process between two looks. cpu: seconds on a core a second; voluntary, involuntary: switches a second."""

    cpu: float
    voluntary: float
    involuntary: float


@dataclass(frozen=True, slots=True)
class Look:
    """The tree at one moment. at: seconds on the clock of `time.monotonic`. root: the process that was asked for.

    rates, clients: by pid; rates are missing at a process's first look.
    """

    at: float
    root: int
    members: list[Member]
    rates: dict[int, Rates]
    queues: list[Queue]
    clients: dict[int, list[Client]]
    reason: str = ""

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if not member.ended]

    def orphan(self, member: Member) -> bool:
        """Whether its parent in the tree has ended, so that the kernel has given it another."""
        return member.pid != self.root and member.stat.parent_pid not in {other.pid for other in self.members}

    def depths(self) -> dict[int, int]:
        """Of each member below the root; 0 for an orphan."""
        found: dict[int, int] = {}
        for member in self.members:
            found[member.pid] = found[member.stat.parent_pid] + 1 if member.stat.parent_pid in found else 0
        return found

    def as_data(self) -> dict[str, Any]:
        """The figures as the page takes them, without what others tell about the engine cores."""
        depths = self.depths()
        return {
            "processes": [self._row(member, depths[member.pid]) for member in self.members],
            "queues": [[queue.address, queue.waiting, queue.limit] for queue in self.queues],
            "ports": sorted({queue.port for queue in self.queues}),
            "reason": self.reason,
        }

    def _row(self, member: Member, depth: int) -> dict[str, Any]:
        rates = self.rates.get(member.pid)
        return {
            "pid": member.pid,
            "start": member.identity.start_ticks,
            "name": member.name,
            "title": member.slow.title,
            "depth": depth,
            "state": member.stat.state,
            "orphan": self.orphan(member),
            "pending": list(member.slow.pending),
            "threads": member.stat.threads,
            "descriptors": member.held.count,
            "memory": member.stat.resident,
            "cpu": rates and round(max(0.0, rates.cpu), 4),
            "voluntary": rates and round(rates.voluntary, 1),
            "involuntary": rates and round(rates.involuntary, 1),
            "clients": [client.peer for client in self.clients.get(member.pid, ())],
        }


class Looker:
    """Takes looks at the tree below `root`. It remembers the last one, for differences. ours: as in `Connections`."""

    def __init__(self, root: Identity, ours: Callable[[], Collection[str]] = tuple) -> None:
        self._tree = Tree(root)
        self._connections = Connections(root.pid, ours)
        self._switches: dict[int, tuple[float, float]] = {}
        self.last: Look | None = None

    def somebody_new(self) -> bool:
        """Whether a process was born in the tree since the last look, for a small part of a look's cost."""
        return self._tree.somebody_new()

    def look(self) -> Look:
        """The tree now; no members once all that belonged to it have ended."""
        members, now = self._tree.read(), time.monotonic()
        queues = self._connections.queues(members)
        clients = self._connections.clients(members, queues)
        rates = self._rates(self.last, members, now) if self.last else {}
        self.last = Look(now, self._tree.root.pid, members, rates, queues, clients, self._connections.reason)
        return self.last

    def _rates(self, before: Look, members: list[Member], now: float) -> dict[int, Rates]:
        earlier = {member.identity: member for member in before.members}
        both = [(earlier[member.identity], member) for member in members if member.identity in earlier]
        seconds = max(1e-6, now - before.at)
        for then, member in both:
            if member.slow.at > then.slow.at > 0:
                self._switches[member.pid] = _switches(then.slow, member.slow)
        self._switches = {member.pid: self._switches.get(member.pid, (0.0, 0.0)) for _, member in both}
        return {
            member.pid: Rates((member.cpu - then.cpu) / seconds, *self._switches[member.pid]) for then, member in both
        }


def _switches(before: Slow, after: Slow) -> tuple[float, float]:
    """A second. A thread that has ended meanwhile is not counted, one that was born is counted from 0."""
    pairs = [(before.switches.get(thread, (0, 0)), now) for thread, now in after.switches.items()]
    seconds = after.at - before.at
    return sum(now[0] - then[0] for then, now in pairs) / seconds, sum(
        now[1] - then[1] for then, now in pairs
    ) / seconds
