"""Room for one more connection: descriptors, of which a process may have RLIMIT_NOFILE and no more (getrlimit(2)).

Whoever takes a connection without room for it loses it: a descriptor that was passed is gone if it can't be installed
(recvmsg(2), MSG_CTRUNC), and libuv accepts and closes all that wait. So one looks first, and what finds no room stays
in the kernel's queue. A few descriptors are never used for connections: the rest of the process needs some too.

Where clients wait although there is no room, connections that are idle make some, as in nginx. For a client that has
sent something while it waits, a few of the spare descriptors are used too (`VISITORS`).
"""

import asyncio
import errno
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable

from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.waiting_clients import Waiting, waiting_clients

log = logging.getLogger("lab.room")

RESERVE = 8  # descriptors of an API server that no connection gets: its metrics and its log have files to open
VISITORS = 4  # of these, for clients that ask while there is no room: the reserve lasts for /health, say
BREATHER = 1.0  # seconds until the next look, as in asyncio
COUNT_EVERY = 0.25  # seconds between two counts of those that wait while there is no room, …
COUNT_SHARE = 9  # … and this times as long as a count took, so that it never takes more than a tenth of a core
QUIET = 60.0  # seconds in which a shortage is not told again
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NOBODY = {
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.EPERM,  # a firewall rule
    # accept(2), "Error handling": Linux reports here what has already happened to the one connection.
    errno.ENETDOWN,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    getattr(errno, "ENONET", errno.EHOSTDOWN),  # Linux alone has it
}


class NoRoom(Exception):
    """No descriptor or no memory is left for one more connection. The text says which."""


def is_shortage(error: Exception) -> bool:
    """Has the machine, or this user's limit, run out of something? Then nothing of ours is broken."""
    short = {*_NO_ROOM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT}
    # ZeroMQ's errors have a number too. Python's own, where it gets no thread, has none.
    return (
        isinstance(error, NoRoom | MemoryError)
        or getattr(error, "errno", None) in short
        or "can't start new thread" in str(error)
    )


def has_room(descriptor: int, reserve: int = RESERVE) -> bool:
    """Is there one more than `reserve`? `descriptor` is any open one.

    The kernel gives the lowest number that is free, so the next number tells; a third of a microsecond.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.dup(descriptor)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        return False
    os.close(lowest)
    return limit == resource.RLIM_INFINITY or lowest < limit - reserve


class Places:
    """How many connections this process has descriptors for, counted from those in use when this is made."""

    def __init__(self) -> None:
        self._used = len(os.listdir("/dev/fd"))

    def count(self) -> int:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, limit - self._used - RESERVE)


def demand_room(descriptor: int) -> None:
    """Raises `NoRoom` where an API server could not take even its first connection."""
    if not has_room(descriptor):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise NoRoom(
            f"descriptors: got a limit of {limit}, expected {RESERVE} more than are in use now, and one for each "
            "connection; raise it with `ulimit -n`"
        )


def accept(listening: socket.socket) -> socket.socket | None:
    """The next connection; None where nobody waits, or one whose connection has already failed. Raises `NoRoom`."""
    try:
        return listening.accept()[0]
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise NoRoom(error.strerror) from error
        if error.errno not in _NOBODY:
            raise
        return None


class Shortage:
    """Says that connections have to wait, and says it once a minute at most."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def tell(self, why: str) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.error("no room for another connection: %s; connections wait until there is some", why)


class Room:
    """An API server's look before each connection. While there is no room the way in is shut, and siblings see it.

    `shut` and `reopen` are called once each, in turns. While clients wait, `connections.make_room` is called with their
    count, and has to choose among the open connections. `port`: the TCP port that clients connect to; None for a Unix
    socket, where nobody can tell who waits; `handed`: the launcher accepts them. Made in the event loop.
    """

    def __init__(
        self,
        descriptor: int,
        connections: OpenConnections,
        shut: Callable[[], None],
        reopen: Callable[[], None],
        *,
        port: int | None = None,
        handed: bool = False,
    ) -> None:
        demand_room(descriptor)
        self._descriptor = descriptor
        self._connections = connections
        self._shut = shut
        self._reopen = reopen
        self.port = port
        self._handed = handed
        self._waiting: Waiting | None = None
        self._next_count = 0.0
        self._shortage = Shortage()
        self._loop = asyncio.get_running_loop()
        self._next_look: asyncio.TimerHandle | None = None  # while the way in is shut

    @property
    def is_shut(self) -> bool:
        return self._next_look is not None

    def shut_if_full(self) -> bool:
        """Where no more connection can be taken the way in is shut from now on. Is it shut?"""
        if not self.is_shut and not has_room(self._descriptor):
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.run_out(f"nearly all of {limit} descriptors are in use (ulimit -n)")
        return self.is_shut

    def run_out(self, why: str) -> None:
        """There is none, as the kernel has just said."""
        if not self.is_shut:
            self._shortage.tell(why)
            self._connections.set_accepting(False)
            self._shut()
            self._look_later()
            self._make_room()

    def on_closed(self) -> None:
        """A connection has ended; the event loop closes its descriptor after it has said so."""
        if self.is_shut:
            self._loop.call_soon(self._look_again)

    def close(self) -> None:
        """Nothing more is called."""
        if self._next_look:
            self._next_look.cancel()
            self._next_look = None

    def _look_later(self) -> None:
        if self._next_look:
            self._next_look.cancel()
        self._next_look = self._loop.call_later(COUNT_EVERY, self._look_again)

    def _look_again(self) -> None:
        if self.is_shut and not self._let_in(RESERVE):
            self._look_later()
            self._make_room()

    def _let_in(self, reserve: int) -> bool:
        if not has_room(self._descriptor, reserve):
            return False
        self.close()
        self._connections.set_accepting(True)
        self._reopen()
        return True

    def _make_room(self) -> None:
        self._count()
        if self._waiting is None or self._waiting.clients:
            self._connections.make_room(self._waiting)
        if self._waiting and self._waiting.asking:
            self._let_in(RESERVE - VISITORS)

    def _count(self) -> None:
        """A count holds for a moment: what it has found makes room at full speed until the next."""
        now = self._loop.time()
        if self.port is not None and now >= self._next_count:
            self._waiting = waiting_clients(self.port, handed=self._handed)
            done = self._loop.time()
            self._next_count = done + max(COUNT_EVERY, COUNT_SHARE * (done - now))


def port_of(connection: socket.socket) -> int | None:
    """The TCP port of its own end; None for a Unix socket."""
    address = connection.getsockname()
    return address[1] if isinstance(address, tuple) else None
