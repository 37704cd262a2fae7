"""One process accepts for all and hands each connection over: SCM_RIGHTS, `--accept handoff`.

The acceptor is the launcher. It holds the listening socket anyway, and under every strategy the server ends when the
launcher dies, so this strategy adds no new point of failure. Its price is that every connection waits for the process
that also supervises the others.

Each API server has a channel: a pair of Unix sockets, one byte and one descriptor for each connection. The launcher
keeps both ends. So connections that an API server leaves unread, because it has died, is about to end or has no room,
are still there, and go to the others. Two processes may read from one channel at a time: the kernel gives each
message to one of them.
"""

import errno
import itertools
import logging
import socket
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.listen_socket import listening_socket
from lab_support.boundary.pokes import Pokes
from lab_support.boundary.room import BREATHER, NoRoom, Shortage, accept, has_room
from lab_support.config import ServerConfig

log = logging.getLogger("lab.handoff")

AT_ONCE = 64  # connections accepted before the launcher looks at its children again
MOMENT = 0.01  # seconds until the next try when no API server could take a connection
LAUNCHER = 0  # the launcher's slot in the pokes: an API server pokes it when it runs out of room or has some again
_FULL = {errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM}  # unix(7): buffer, or descriptors on their way


@dataclass
class Channel:
    """The way to one API server.

    `passed`: connections sent, less those taken back; the counters say how many of them it has read. `last`: the
    number of the last one. Among API servers with equally many connections, the next goes to the one that has waited
    longest for one.
    """

    ours: socket.socket
    theirs: socket.socket
    passed: int = 0
    last: int = 0
    retired: bool = False

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Handoff:
    """The launcher's side. A context manager."""

    def __init__(self, config: ServerConfig, counters: Counters) -> None:
        self._stack = ExitStack()
        self.bound = self._stack.enter_context(listening_socket(config))
        self.bound.setblocking(False)
        self._pokes = self._stack.enter_context(Pokes(1))
        self._counters = counters
        self._channels: dict[int, Channel] = {}
        self._abandoned: list[Channel] = []  # of API servers that have ended; kept until they are empty
        self._held: deque[socket.socket] = deque()
        self._numbers = itertools.count(1)
        self._pause_until = 0.0
        self._shortage = Shortage()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for accepted in self._held:
            accepted.close()
        for channel in (*self._channels.values(), *self._abandoned):
            channel.close()
        self._stack.close()

    def open_for(self, slot: int) -> AcceptSource:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._channels[slot] = Channel(ours, theirs)
        return AcceptSource(theirs, slot, self._pokes)

    def close_our_copy(self, source: AcceptSource) -> None:
        """Do nothing: the launcher keeps both ends of the channel."""

    def retire(self, slot: int) -> None:
        """Pass no more to `slot`; connections that it has not read yet go to the others."""
        if slot in self._channels:
            self._channels[slot].retired = True
            self._take_back()

    def on_ended(self, slot: int) -> None:
        """The API server has ended: connections that wait in its channel go to another."""
        self._abandoned.append(self._channels.pop(slot))
        self._take_back()

    def stop(self) -> None:
        """Hand over those that wait in the queue, then close it. Whom no API server has room for is reset."""
        self._take_back()
        while not self._held and self._takers() and self._accept_one():
            self._hand_over()
        self.bound.close()

    def close_after_fork(self) -> None:
        self.__exit__()

    @property
    def waitables(self) -> list[socket.socket | int]:
        """The sockets that the launcher should wait for; not the listening one while nobody could take a connection."""
        waits = [self.bound] if self._takers() and not self._held and time.monotonic() >= self._pause_until else []
        return [*waits, self._pokes.descriptor(LAUNCHER)]

    @property
    def due(self) -> float | None:
        """When to call `on_due`, in time.monotonic() seconds."""
        waiting = self._held or self._abandoned or time.monotonic() < self._pause_until
        return self._pause_until if waiting else None

    def on_due(self) -> None:
        self._take_back()

    def on_readable(self) -> None:
        self._pokes.clear(LAUNCHER)
        self._take_back()
        for _ in range(AT_ONCE):
            if self._held or not self._accept_one():
                return
            self._hand_over()

    def _accept_one(self) -> bool:
        """False: try again only when the kernel reports the next connection, or after a breather."""
        try:
            accepted = accept(self.bound)
        except NoRoom as why:
            self._run_out(str(why))
            return False
        if accepted:
            self._held.append(accepted)
        return accepted is not None

    def _run_out(self, why: str) -> None:
        self._shortage.tell(why)
        self._pause_until = time.monotonic() + BREATHER

    def _take_back(self) -> None:
        """Give connections in channels that nobody is going to read to the other API servers.

        They come before those that are held, because they were accepted earlier.
        """
        taking = self._takers()
        idle = [channel for slot, channel in self._channels.items() if slot not in taking]
        back: list[socket.socket] = []
        emptied = [self._drain(channel, back) for channel in (*self._abandoned, *idle)]
        self._held.extendleft(reversed(back))
        if all(emptied):
            for channel in self._abandoned:
                channel.close()
            self._abandoned.clear()
        self._hand_over()

    def _drain(self, channel: Channel, back: list[socket.socket]) -> bool:
        """Move all connections in it to the end of `back`; True once it is empty. A descriptor that can't be installed
        would be lost, so check for room first."""
        while has_room(channel.theirs.fileno(), reserve=0):
            try:
                accepted = receive(channel.theirs)
            except BlockingIOError:
                return True
            channel.passed -= 1
            if accepted:
                back.append(accepted)
        self._run_out("the launcher has no descriptor free (ulimit -n)")
        return False

    def _hand_over(self) -> None:
        """Pass on each held connection to the API server with the fewest connections, open or on their way to it."""
        while self._held:
            takers = sorted(self._takers(), key=self._load)
            if not any(self._pass(slot, self._held[0]) for slot in takers):
                self._pause_until = max(self._pause_until, time.monotonic() + MOMENT)
                return
            self._held.popleft().close()

    def _takers(self) -> list[int]:
        connections = self._counters.connections_by_slot()
        return [
            slot for slot, channel in self._channels.items() if connections[slot] != TAKES_NONE and not channel.retired
        ]

    def _load(self, slot: int) -> tuple[int, int]:
        channel = self._channels[slot]
        on_their_way = channel.passed - self._counters.accepted_by_slot()[slot]
        return self._counters.connections_by_slot()[slot] + on_their_way, channel.last

    def _pass(self, slot: int, accepted: socket.socket) -> bool:
        """False if the channel is full. The kernel keeps the connection open while its descriptor is on the way."""
        channel = self._channels[slot]
        try:
            socket.send_fds(channel.ours, [b"c"], [accepted.fileno()])
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        channel.passed += 1
        channel.last = next(self._numbers)
        return True


def receive(channel: socket.socket) -> socket.socket | None:
    """The next connection that was passed on `channel`; None if it was lost on the way. Runs on either side.

    Raises `BlockingIOError` if there is none now.
    """
    # Without the flag the descriptors that recvmsg(2) makes would be inheritable.
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if descriptors:
        return socket.socket(fileno=descriptors[0])
    log.error("a connection was lost: there was no descriptor free for it (ulimit -n)")
    return None
