"""Room for one more connection: descriptors, of which a process may have at most RLIMIT_NOFILE (getrlimit(2)).

A connection that is taken without room is lost: a passed descriptor is gone if it can't be installed (recvmsg(2),
MSG_CTRUNC), and libuv accepts and closes all that wait. So acceptors check first, and a connection without room stays
in the kernel's queue. A few descriptors are reserved for the rest of the process.

If clients wait while there is no room, idle connections are closed to make some, as in nginx. A client that has sent
something while it waits may also use one of a few reserved descriptors (`VISITORS`).
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
VISITORS = 4  # of these, for clients that send a request while there is no room, such as /health
BREATHER = 1.0  # seconds until the next try, as in asyncio
COUNT_EVERY = 0.25  # least seconds between two counts of the clients that wait while there is no room
COUNT_SHARE = 9  # and at least this many times as long as a count took: counting uses at most a tenth of a core
QUIET = 60.0  # seconds in which a shortage is not reported again
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NOBODY = {
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.EPERM,  # a firewall rule
    # accept(2), "Error handling": Linux reports here errors that the new connection already has.
    errno.ENETDOWN,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    getattr(errno, "ENONET", errno.EHOSTDOWN),  # only Linux has it
}


class NoRoom(Exception):
    """No descriptor or no memory is left for one more connection. The text says which."""


def is_shortage(error: Exception) -> bool:
    """Did the machine, or a limit of this user, run out of something? If so, the error is no defect of ours."""
    short = {*_NO_ROOM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT}
    # ZeroMQ's errors have an errno too. Python's error for a thread that can't be started has none.
    return (
        isinstance(error, NoRoom | MemoryError)
        or getattr(error, "errno", None) in short
        or "can't start new thread" in str(error)
    )


def has_room(descriptor: int, reserve: int = RESERVE) -> bool:
    """Are more than `reserve` descriptors free? `descriptor` is any open one.

    The kernel gives out the lowest free number, so the next number tells. Takes a third of a microsecond.
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
    """The number of connections that this process has descriptors for, less those in use when this is made."""

    def __init__(self) -> None:
        self._used = len(os.listdir("/dev/fd"))

    def count(self) -> int:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, limit - self._used - RESERVE)


def demand_room(descriptor: int) -> None:
    """Raise `NoRoom` if an API server could not take even its first connection."""
    if not has_room(descriptor):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise NoRoom(
            f"descriptors: got a limit of {limit}, expected {RESERVE} more than are in use now, and one for each "
            "connection; raise it with `ulimit -n`"
        )


def accept(listening: socket.socket) -> socket.socket | None:
    """The next connection; None if no client waits, or its connection has already failed. Raises `NoRoom`."""
    try:
        return listening.accept()[0]
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise NoRoom(error.strerror) from error
        if error.errno not in _NOBODY:
            raise
        return None


class Shortage:
    """Logs that connections have to wait, at most once a minute."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def tell(self, why: str) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.error("no room for another connection: %s; connections wait until there is some", why)


class Room:
    """An API server's check before each connection. Without room it stops accepting, and siblings see that.

    `shut` and `reopen` are called alternately. While clients wait, `connections.make_room` is called with their count,
    and chooses which open connections to close. `port`: the TCP port that clients connect to; None for a Unix socket,
    whose waiting clients can't be counted. `handed`: the launcher accepts them. Made in the event loop.
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
        self._next_look: asyncio.TimerHandle | None = None  # set while shut

    @property
    def is_shut(self) -> bool:
        return self._next_look is not None

    def shut_if_full(self) -> bool:
        """Stop accepting if no more connection can be taken. Returns whether accepting is stopped."""
        if not self.is_shut and not has_room(self._descriptor):
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.run_out(f"nearly all of {limit} descriptors are in use (ulimit -n)")
        return self.is_shut

    def run_out(self, why: str) -> None:
        """Stop accepting: the kernel has just reported that there is no room."""
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
        """Call no callback any more."""
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
        """Count the waiting clients; until the next count, idle connections are closed for as many as this finds."""
        now = self._loop.time()
        if self.port is not None and now >= self._next_count:
            self._waiting = waiting_clients(self.port, handed=self._handed)
            done = self._loop.time()
            self._next_count = done + max(COUNT_EVERY, COUNT_SHARE * (done - now))


def port_of(connection: socket.socket) -> int | None:
    """The TCP port of this side of the connection; None for a Unix socket."""
    address = connection.getsockname()
    return address[1] if isinstance(address, tuple) else None
