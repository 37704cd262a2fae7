"""Deadlines of children that show no sign of life: --liveness-timeout.

The end of a process is an event that the kernel reports. A process that is stopped, deadlocked or in an endless loop
reports nothing, and neither does the kernel: only a deadline finds it. Each child's starts again at every message from
it. An idle child is asked for one with `Ping`; one that loads a large model sends `Alive` by itself.
Before READY CPU time is a sign of life too, because imports take long on a busy machine: what starts in an endless loop
is left to --ready-timeout.

The launcher itself may have stood still (Ctrl-Z stops all of the server, and `fg` continues all): then nobody could
have answered, so all deadlines start again.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lab_support import own_stack
from lab_support.boundary.messages import Alive, Hello, Ping, Ready, ToLauncher
from lab_support.supervision.children import Children
from lab_support.supervision.waits import cpu_ticks, state_of

ASKED_AFTER = 1 / 3  # of the timeout: a child that has said nothing for so long is asked
TO_WRITE = 0.5  # seconds that a child gets to write its stack before it is killed
LATE = 1.0  # seconds by which the launcher may be late without having stood still


@dataclass
class _Watched:
    """One child. since: its last sign of life. listens: it has said Hello. asked: a Ping is out. ticks: of CPU time,
    before READY. given_up_at: its stack was asked for then."""

    since: float
    listens: bool = False
    ready: bool = False
    ticks: int = 0
    asked: bool = False
    given_up_at: float | None = None
    state: str = ""


@dataclass
class Liveness:
    """Called by the launcher's main thread. timeout: seconds, or 0 for no deadlines. watches: whether a child of this
    name is watched: a foreign program can't answer."""

    timeout: float
    children: Children
    watches: Callable[[str], bool] = lambda name: True
    _by_pid: dict[int, _Watched] = field(default_factory=dict)
    _due: float | None = None

    @property
    def due(self) -> float | None:
        """The time to call `lost`; None if there are no deadlines."""
        if not self.timeout:
            return None
        now = time.monotonic()
        watched = [self._watched(pid, now) for pid in self._pids().values()]
        self._due = min(map(self._next, watched), default=now + self.timeout)
        return self._due

    def on_message(self, name: str, message: ToLauncher) -> None:
        """A child has said something, so it lives."""
        pid = self._pids().get(name) if self.timeout else None
        if pid is None:
            return
        watched = self._watched(pid, time.monotonic())
        watched.since, watched.given_up_at = time.monotonic(), None
        watched.listens |= isinstance(message, Hello)
        watched.ready |= isinstance(message, Ready)
        watched.asked &= not isinstance(message, Alive)

    def lost(self) -> Iterator[tuple[str, str]]:
        """The children that have shown no sign of life in time, and what each is found to do, in words and stacks."""
        if not self.timeout:
            return
        now = time.monotonic()
        if self._due is not None and now > self._due + LATE:
            self._start_again(now)
        pids = self._pids()
        self._by_pid = {pid: each for pid, each in self._by_pid.items() if pid in pids.values()}
        for name, pid in pids.items():
            watched = self._watched(pid, now)
            if now >= self._next(watched) and not self.children.has_said(name):
                if watched.given_up_at is not None:
                    watched.given_up_at = math.inf  # once
                    yield name, self._found(pid, watched)
                elif now - watched.since < self.timeout:
                    watched.asked = True
                    self.children.tell(name, Ping())
                elif watched.ready or not self._has_computed(pid, watched, now):
                    self._give_up(name, pid, watched, now)

    def _next(self, watched: _Watched) -> float:
        """The time at which something is to be done about it."""
        if watched.given_up_at is not None:
            return watched.given_up_at + TO_WRITE
        waits = watched.asked or not watched.listens
        return watched.since + self.timeout * (1 if waits else ASKED_AFTER)

    def _has_computed(self, pid: int, watched: _Watched, now: float) -> bool:
        """Has it used CPU time since the last deadline? Then its deadline starts again."""
        before, watched.ticks = watched.ticks, cpu_ticks(pid)
        if watched.ticks > before:
            watched.since = now
        return watched.ticks > before

    def _give_up(self, name: str, pid: int, watched: _Watched, now: float) -> None:
        watched.given_up_at = now
        watched.state = state_of(pid)
        if own_stack.can_be_asked(pid):
            self.children.send_signal(name, own_stack.ASK)

    def _found(self, pid: int, watched: _Watched) -> str:
        told = f"showed no sign of life for {self.timeout:g} s (--liveness-timeout); {watched.state}"
        stack = own_stack.written(pid).strip()
        return f"{told}\n{stack}" if stack else told

    def _start_again(self, now: float) -> None:
        for watched in self._by_pid.values():
            watched.since, watched.given_up_at = now, None

    def _watched(self, pid: int, now: float) -> _Watched:
        return self._by_pid.setdefault(pid, _Watched(now))

    def _pids(self) -> dict[str, int]:
        pids = self.children.pids
        return {name: pids[name] for name in self.children.running if self.watches(name)}
