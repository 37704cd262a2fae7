"""One process accepts for all and hands each connection over: SCM_RIGHTS, `--accept handoff`.

The acceptor is the launcher. It holds the listening socket anyway, and it can't be missed: when it dies the server
ends, under every strategy. So this one adds no new way to die. Its price is that every connection waits for the
process that also watches the others.

Each API server has a channel: a pair of Unix sockets, one byte and one descriptor for each connection. The launcher
keeps both ends. So what a dead API server had not read yet is still there, and goes to the others.
"""

import errno
import logging
import socket
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.inheritance import Entrance
from lab_support.boundary.listen_socket import listening_socket
from lab_support.config import ServerConfig

log = logging.getLogger("lab.handoff")

AT_ONCE = 64  # connections accepted before the launcher looks at its children again
BREATHER = 0.01  # seconds until the next try where nobody could take a connection
_FULL = {errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS}  # unix(7): the buffer, or descriptors on their way


@dataclass
class Channel:
    """The way to one API server. `passed`: connections so far; what it has read of them is in the counters."""

    ours: socket.socket
    theirs: socket.socket
    passed: int = 0


class Handoff:
    """The launcher's side. A context manager."""

    def __init__(self, config: ServerConfig, counters: Counters) -> None:
        self._stack = ExitStack()
        self.bound = self._stack.enter_context(listening_socket(config))
        self.bound.setblocking(False)
        self._counters = counters
        self._channels: dict[int, Channel] = {}
        self._held: deque[socket.socket] = deque()
        self._pause_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for accepted in self._held:
            accepted.close()
        for slot in list(self._channels):
            self._close(slot)
        self._stack.close()

    def open_for(self, slot: int) -> Entrance:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._channels[slot] = Channel(ours, theirs)
        return Entrance(theirs, slot, None)

    def given(self, entrance: Entrance) -> None:
        """The launcher keeps their end too."""

    def retire(self, slot: int) -> None:
        """Nothing more goes to `slot`; what is in its channel is still read."""
        if slot in self._channels:
            self._channels[slot].passed = TAKES_NONE

    def gone(self, slot: int) -> None:
        """The API server has ended: whoever waits in its channel goes to another."""
        while (accepted := receive(self._channels[slot].theirs)) is not None:
            self._held.append(accepted)
        self._close(slot)
        self._hand_over()

    def close_after_fork(self) -> None:
        self.__exit__()

    @property
    def waitables(self) -> list[socket.socket]:
        """What the launcher should wait for: nothing while nobody could take a connection."""
        return [self.bound] if time.monotonic() >= self._pause_until and self._takers() else []

    @property
    def due(self) -> float | None:
        """When to call `on_due`, in time.monotonic() seconds."""
        return self._pause_until if self._held or time.monotonic() < self._pause_until else None

    def on_due(self) -> None:
        self._hand_over()

    def on_readable(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            for _ in range(AT_ONCE):
                self._held.append(self.bound.accept()[0])
                self._hand_over()
                if self._held:
                    return

    def _hand_over(self) -> None:
        """Pass on what is held, each to the API server with the fewest connections, open or on their way to it."""
        while self._held:
            takers = sorted(self._takers(), key=self._load)
            if not any(self._pass(slot, self._held[0]) for slot in takers):
                self._pause_until = time.monotonic() + BREATHER
                return
            self._held.popleft().close()

    def _takers(self) -> list[int]:
        connections = self._counters.connections_by_slot()
        return [
            slot
            for slot, channel in self._channels.items()
            if connections[slot] != TAKES_NONE and channel.passed != TAKES_NONE
        ]

    def _load(self, slot: int) -> tuple[int, int]:
        passed = self._channels[slot].passed
        on_their_way = passed - self._counters.accepted_by_slot()[slot]
        return self._counters.connections_by_slot()[slot] + on_their_way, passed

    def _pass(self, slot: int, accepted: socket.socket) -> bool:
        """False where the channel is full. The kernel keeps the connection open while its descriptor is on the way."""
        try:
            socket.send_fds(self._channels[slot].ours, [b"c"], [accepted.fileno()])
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        self._channels[slot].passed += 1
        return True

    def _close(self, slot: int) -> None:
        channel = self._channels.pop(slot)
        channel.ours.close()
        channel.theirs.close()


def receive(channel: socket.socket) -> socket.socket | None:
    """The next connection that was passed on `channel`; None where there is none now. Runs on either side."""
    try:
        # recvmsg(2) makes descriptors, and would make them inheritable.
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return None
    return socket.socket(fileno=descriptors[0]) if descriptors else None
