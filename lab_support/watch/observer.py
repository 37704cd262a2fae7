"""Observes one process tree: looks four times a second, events, and X-rays when the tree changes.

Without a change there is an X-ray every two seconds, or so seldom that taking them costs 1.5 % of a core: of a
large tree one takes a tenth of a second. Runs in the process that watches, in one thread.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Self

from lab_support.instruments.proc import Identity
from lab_support.instruments.xray.graph import Graph
from lab_support.instruments.xray.read import NoSuchProcess, take_xray
from lab_support.watch.ends import Ends
from lab_support.watch.events import Chronicle, Event
from lab_support.watch.looks import Look, Looker

EVERY, XRAY_EVERY = 0.25, 2.0
_AT_LEAST, _XRAY_AT_LEAST = 0.05, 1.0  # seconds between two looks, between two X-rays, while many are born or end
_BIRTHS_EVERY = 0.1  # seconds; ends are told by the kernel, births are not
_XRAY_SHARE = 0.015  # of a core
_STARRED = 10.0  # seconds for which a new process or object has its star
_FULL_SEARCH = 10.0  # seconds between two searches of all processes for holders outside the tree


@dataclass(frozen=True, slots=True)
class XRayed:
    """An X-ray, and the one of some seconds ago that it is compared with; None if there is none."""

    graph: Graph
    before: Graph | None


@dataclass(frozen=True, slots=True)
class Observation:
    """One look, the events since the last, and an X-ray if one was due and differs from the last; None otherwise."""

    look: Look
    events: list[Event]
    xray: XRayed | None


class Observer:
    """Observes the tree below `root`. A context manager: leaving it closes its descriptors.

    ours: the addresses from which the watcher itself asks the server; those connections are no client's.
    """

    def __init__(self, root: Identity, ours: Callable[[], Collection[str]] = tuple) -> None:
        self._looker, self._chronicle, self._xrays = Looker(root, ours), Chronicle(), _XRays(root.pid)
        self._ends = Ends()
        self._ended: set[Identity] = set()
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.close()

    def observe(self, *, again: bool = False) -> Observation:
        """The tree now. again: with an X-ray in any case."""
        self._due = time.monotonic() + EVERY
        look = self._looker.look()
        running = {member.identity for member in look.running}
        self._ended |= set(self._ends.ended())
        statuses = {identity: how for identity in self._ended if (how := self._ends.status(identity)) is not None}
        events = self._chronicle.update(look, statuses, time.time())
        for identity in self._ended - running:
            self._ends.forget(identity)
        self._ended &= running
        self._ends.watch(running - self._ended)
        return Observation(look, events, self._xrays.next(look, again=again))

    def wait(self) -> None:
        """Sleep until the next look is due, or a process of the tree has ended or was born."""
        time.sleep(_AT_LEAST)
        while (left := self._due - time.monotonic()) > 0:
            if self._ends.wait(min(left, _BIRTHS_EVERY)) or self._looker.somebody_new():
                return


class _XRays:
    """The X-rays: each when it is due."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._taken: deque[tuple[float, Graph]] = deque()
        self._people: frozenset[Identity] = frozenset()
        self._at = self._searched = float("-inf")
        self._cost = 0.0
        self._shown: XRayed | None = None

    def next(self, look: Look, *, again: bool) -> XRayed | None:
        """An X-ray if one is due and differs from the last; None otherwise. again: in any case."""
        if again:
            self._at, self._shown = float("-inf"), None
        people = frozenset(member.identity for member in look.running)
        wait = _XRAY_AT_LEAST if people != self._people else max(XRAY_EVERY, self._cost / _XRAY_SHARE)
        if look.at < self._at + wait:
            return None
        began = time.thread_time()
        try:
            taken = self._take(look.at)
        except NoSuchProcess:
            return None  # the root has ended; the last picture stays
        self._at, self._people, self._cost = look.at, people, time.thread_time() - began
        last, self._shown = self._shown, taken
        return taken if taken != last else None

    def _take(self, now: float) -> XRayed:
        search = now > self._searched + _FULL_SEARCH
        known = [one.pid for one in self._taken[-1][1].processes if one.outside] if self._taken else []
        graph = take_xray(self._pid, outside=True if search else known)
        self._searched = now if search else self._searched
        self._taken.append((now, graph))
        while len(self._taken) > 1 and self._taken[0][0] < now - _STARRED:
            self._taken.popleft()
        before = self._taken[0][1]
        return XRayed(graph, before if before is not graph else None)
