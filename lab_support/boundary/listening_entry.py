"""A listening socket's entry in uvloop's own epoll set, which can be taken out and put in again.

uvloop has no call for that, nor for EPOLLEXCLUSIVE. So its set is reached by its descriptor, behind libuv's back,
which looks at an entry again only when what it watches for changes.

In an epoll set of ours, which uvloop would watch, EPOLLEXCLUSIVE does nothing: nobody sleeps on the inner set, so the
kernel takes nobody for woken and goes on waking.
"""

import asyncio
import logging
import os
import select
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger("lab.accept")


def epoll_set_of(loop: asyncio.AbstractEventLoop) -> select.epoll | None:
    """The event loop's own, by a descriptor of ours; None where it does not say which it is."""
    backend = getattr(loop, "_get_backend_id", None)  # uvloop's, private
    return select.epoll.fromfd(os.dup(backend())) if backend else None


class ServerEntry:
    """That of an asyncio server, which libuv has made. asyncio's own event loop knows by itself when to stand back."""

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
    """One with EPOLLEXCLUSIVE: one sleeper is woken, not all.

    The kernel wakes the first in the queue that sleeps, which is always the same one where nobody moves. So whoever
    took a connection goes to the back: the entry is taken out and put in again (epoll_ctl(2) has no other way to
    change an exclusive one). Putting it in asks whether more connections wait, so none is forgotten.
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
            await asyncio.sleep(0)  # libuv makes an entry of its own when it next waits
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
