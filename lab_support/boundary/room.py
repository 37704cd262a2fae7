"""Room for one more connection: descriptors, of which a process may have RLIMIT_NOFILE and no more (getrlimit(2)).

Whoever takes a connection without room for it loses it: a descriptor that was passed is gone if it can't be installed
(recvmsg(2), MSG_CTRUNC), and libuv accepts and closes all that wait. So one looks first, and what finds no room stays
in the kernel's queue. A few descriptors are never used for connections: the rest of the process needs some too.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
import time
from collections.abc import Callable

log = logging.getLogger("lab.room")

RESERVE = 8  # descriptors of an API server that no connection gets: its metrics and its log have files to open
BREATHER = 1.0  # seconds until the next look, as in asyncio
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

    `shut` and `reopen` are called once each, in turns. Made in the event loop.
    """

    def __init__(
        self,
        descriptor: int,
        accepting: Callable[[bool], None],
        shut: Callable[[], None],
        reopen: Callable[[], None],
    ) -> None:
        demand_room(descriptor)
        self._descriptor = descriptor
        self._accepting = accepting
        self._shut = shut
        self._reopen = reopen
        self._shortage = Shortage()
        self._loop = asyncio.get_running_loop()
        self._next_look: asyncio.TimerHandle | None = None  # while the way in is shut

    @property
    def is_shut(self) -> bool:
        return self._next_look is not None

    def look(self) -> bool:
        """May a connection be taken? If not, the way in is shut from now on."""
        if not self.is_shut and not has_room(self._descriptor):
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.run_out(f"nearly all of {limit} descriptors are in use (ulimit -n)")
        return not self.is_shut

    def run_out(self, why: str) -> None:
        """There is none, as the kernel has just said."""
        if not self.is_shut:
            self._shortage.tell(why)
            self._look_later()
            self._accepting(False)
            self._shut()

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
        self._next_look = self._loop.call_later(BREATHER, self._look_again)

    def _look_again(self) -> None:
        if not self.is_shut:
            return
        if has_room(self._descriptor):
            self.close()
            self._accepting(True)
            self._reopen()
        else:
            self._look_later()
