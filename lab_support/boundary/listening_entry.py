"""A listening socket's entry in uvloop's own epoll set, which can be taken out and put in again.

uvloop has no call for that, nor for EPOLLEXCLUSIVE. So its set is changed through its descriptor, unknown to libuv,
which touches an entry again only if the events that it watches for change.

An epoll set of our own, which uvloop would watch, is no alternative. EPOLLEXCLUSIVE does nothing there, because nobody
sleeps on the inner set: the kernel believes that nobody was woken, and goes on waking.
"""

import asyncio
import logging
import os
import select
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger("lab.accept")


def epoll_set_of(loop: asyncio.AbstractEventLoop) -> select.epoll | None:
    """The event loop's own epoll set, by a descriptor of ours; None if the loop does not tell."""
    backend = getattr(loop, "_get_backend_id", None)  # uvloop's, private
    return select.epoll.fromfd(os.dup(backend())) if backend else None


class ServerEntry:
    """The entry of an asyncio server, made by libuv. asyncio's own event loop pauses by itself when out of room."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._descriptor = descriptor
        self._epoll = epoll_set_of(loop)

    def put_in(self) -> None:
        if self._epoll:
            with suppress(FileExistsError):
                self._epoll.register(self._descriptor, select.EPOLLIN)

    def take_out(self) -> None:
        if self._epoll:
            with suppress(FileNotFoundError):
                self._epoll.unregister(self._descriptor)

    def close(self) -> None:
        if self._epoll:
            self._epoll.close()


class ExclusiveEntry:
    """An entry with EPOLLEXCLUSIVE: one sleeper is woken, not all.

    The kernel wakes the first sleeper in the queue, which is always the same one unless entries move. So an API server
    that took a connection goes to the back: its entry is taken out and put in again, because epoll_ctl(2) has no other
    way to change an exclusive one. Putting it in reports connections that already wait, so none is forgotten.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, on_readable: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._on_readable = on_readable
        self._epoll = epoll_set_of(loop)
        self._in = False

    async def make(self) -> None:
        self._loop.add_reader(self._descriptor, self._on_readable)
        if self._epoll is None:
            log.warning("this event loop does not say where its epoll set is: every API server wakes for a connection")
            self._in = True
            return
        while not self._in:
            await asyncio.sleep(0)  # libuv makes its own entry when it next waits
            with suppress(FileNotFoundError):
                self._epoll.unregister(self._descriptor)
                self.put_in()

    def put_in(self) -> None:
        if self._in:
            return
        if self._epoll:
            self._epoll.register(self._descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        else:
            self._loop.add_reader(self._descriptor, self._on_readable)
        self._in = True

    def take_out(self) -> None:
        if not self._in:
            return
        if self._epoll:
            self._epoll.unregister(self._descriptor)
        else:
            self._loop.remove_reader(self._descriptor)
        self._in = False

    def to_the_back(self) -> None:
        if self._in and self._epoll:
            self.take_out()
            self.put_in()

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._epoll:
            self._epoll.close()
