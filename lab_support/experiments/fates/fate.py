"""The fate of a server that loses a process, or has one stopped: who notices, by what means, and what clients get.

All of it is observed from outside. This process is a subreaper, so orphans become its children, and their exit status
says what ended them: code 3 is ours for the pipe's end (boundary/lifeline.py), SIGKILL was sent by the kernel because
of the parent's death. The launcher's trace says when it noticed an end, on the same clock. Runs in a process of its
own, such as a cell's, never in the kernel of a notebook.
"""

import ctypes
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lab_support.experiments.fates.clients import DONE, WAITING, Clients
from lab_support.experiments.fates.doomed_server import DoomedServer, started
from lab_support.experiments.fates.ends import Ends

IDLE, STREAMING, STARTING = "idle", "streaming", "starting"
STATES = (IDLE, STREAMING, STARTING)
SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
ROLES = ("launcher", "coordinator", "api-0", "engine-0")
EOF, DEATH_SIGNAL = "EOF on the pipe", "parent-death signal"
END, DEADLINE = "the process's end", "the liveness deadline"
_MEANS = {3: EOF, -signal.SIGKILL: DEATH_SIGNAL}  # by a child's exit code
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_PATIENCE = 30.0
_LOOK_EVERY = 0.005
_SETTINGS = {"device": "paced:8B", "api_server_count": 2, "data_parallel_size": 2, "shutdown_timeout": 0}


def fate(role: str, state: str, *, number: int = signal.SIGKILL, watch: float = 3.0, **settings: Any) -> dict[str, Any]:
    """Start a server, send the signal to one of its processes, and tell what came of it; for `emit`.

    role: one of `ROLES`. state: streaming (four clients read), starting (before READY; a client is in the queue) or
    idle (four clients come afterwards). watch: seconds for which a stopped process is left so, if nobody notices.
    settings: those of `lab serve`, such as `liveness_timeout=1.0`.

    Returns: `noticed`, for each process that reacted by itself, by what and after how many ms; `clients`, the number
    for each outcome; `lost_ms`, the ms after which each that was there knew that it had lost its answer; `again`, the
    outcomes of those when they asked again at once; `server`, "ended" or "goes on"; `replaced_ms`, the ms until another
    process was ready in its place, or None; `left`, the processes that still run. Raises `ValueError` for an unknown
    state or signal, `LookupError` if there is no such process, and `RuntimeError` if the server does not start.
    """
    if state not in STATES or number not in SIGNALS:
        expected = f"one of {', '.join(STATES)}, and SIGKILL or SIGSTOP"
        raise ValueError(f"got state {state!r} and signal {number}, expected {expected}")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with started(_SETTINGS | settings) as server:
        pids = server.await_process(role) if state == STARTING else server.await_ready()
        if role not in pids:
            raise LookupError(f"got {role!r}, expected one of {', '.join(pids)}")
        clients = _clients_before(server, state)
        with Ends(server.made | pids) as ends:
            blow = Blow(server, ends, role, state, number, time.monotonic(), frozenset(pids))
            os.kill(pids[role], number)
            return blow.told(clients, watch)


def _clients_before(server: DoomedServer, state: str) -> Clients | None:
    if state == IDLE:
        return None
    clients = server.clients(1 if state == STARTING else 4)
    if state == STREAMING:
        clients.await_flow()
    return clients


@dataclass
class Blow:
    """A signal that one process of a server has been sent.

    at: when, by time.monotonic(). begun: the processes that were running our code then. over: the last moment at which
    it counts if somebody notices, because then the server is stopped.
    """

    server: DoomedServer
    ends: Ends
    role: str
    state: str
    number: int
    at: float
    begun: frozenset[str]
    over: float = math.inf

    def told(self, clients: Clients | None, watch: float) -> dict[str, Any]:
        """Wait for what comes of it, then end the server, and tell."""
        happened = _wait_until(self.happened, watch if self.stopped else _PATIENCE)
        fared = self._fared(clients, _PATIENCE if happened else 0.0 if clients else watch)
        if not happened and fared["clients"].keys() - {DONE, WAITING}:
            # Clients that come late may be the first to see what the launcher is about to note.
            happened = _wait_until(self.happened, _PATIENCE)
        self.over = time.monotonic()
        ended = self.server.ended
        replaced_ms = self.replaced_ms() if happened and not ended else None
        self._end_all(still_stopped=self.stopped and not happened)
        return {
            "role": self.role,
            "state": self.state,
            "signal": signal.Signals(self.number).name,
            "noticed": self.noticed(),
            **fared,
            "server": "ended" if ended else "goes on",
            "replaced_ms": replaced_ms,
            "left": len(self.ends.running),
        }

    def _fared(self, before: Clients | None, seconds: float) -> dict[str, Any]:
        """How the clients that were there before have fared, or four that come now, once so many seconds are over."""
        clients = before or self.server.clients(4)
        outcomes = clients.outcomes(seconds)
        return {"clients": outcomes, "lost_ms": clients.lost_ms(self.at) if before else [], "again": clients.again()}

    def _end_all(self, still_stopped: bool) -> None:
        if still_stopped:
            with suppress(ProcessLookupError):  # it has been noticed at this moment
                os.kill(self.ends.pids[self.role], signal.SIGCONT)
        self.server.stop()
        _wait_until(lambda: not self.ends.running, _PATIENCE)

    @property
    def stopped(self) -> bool:
        return self.number == signal.SIGSTOP

    def happened(self) -> bool:
        """Whether the server has ended, or goes on and knows of it."""
        if self.role == "launcher":
            return self.server.ended and not self.ends.running
        return self.server.ended or (self.can_be_replaced and self.seen("ended") is not None)

    @property
    def can_be_replaced(self) -> bool:
        return self.role.startswith("api-") and self.state != STARTING

    def replaced_ms(self) -> float | None:
        def ready() -> float | None:
            return self.seen("READY received", by=math.inf)

        _wait_until(lambda: self.server.ended or ready() is not None, _PATIENCE)
        return ready()

    def seen(self, stage: str, by: float | None = None) -> float | None:
        """The ms after which the launcher noted this of the process, or of another in its place."""
        for each in self.server.milestones(stage, self.role):
            if self.at <= each.at <= (self.over if by is None else by):
                return _ms(each.at - self.at)
        return None

    def noticed(self) -> dict[str, tuple[str, float]]:
        if self.role == "launcher":
            return self._by_children() if not self.stopped else {}
        ms = self.seen("ended")
        return {} if ms is None else {"launcher": (DEADLINE if self.stopped else END, ms)}

    def _by_children(self) -> dict[str, tuple[str, float]]:
        """Of each by its own end: code and time. Python's resource tracker ends because its pipe does."""
        return {
            name: (_MEANS.get(code, f"exit code {code}"), _ms(self.ends.at[name] - self.at))
            for name, code in self.ends.codes.items()
            if name in self.begun - {"resource-tracker"}
        }


def _wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
    return found


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
