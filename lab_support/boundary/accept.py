"""Who takes the next connection: the strategies of `--accept`, as an API server sees them. It runs in its event loop.

shared        Every API server has the one listening socket in its event loop, which accepts as it likes.
exclusive     The same socket, but the kernel wakes one API server for each connection: EPOLLEXCLUSIVE.
least-loaded  The default. As exclusive; but who was woken and has more connections open than another pokes that one.
handoff       The launcher accepts, and passes each connection to the API server that has the fewest.
reuseport     As shared, on a socket that nobody else has: the kernel's hash has chosen already.

An acceptor takes a connection and gives it to a protocol, as the event loop's own server would. All of them run on
uvloop, so that a token pays nothing for the choice. What a connection pays: `shared` and `reuseport` accept in C, the
others in Python and with a task for each; to change its place in the wait queue costs two more system calls
(epoll_ctl(2), a microsecond). The figures are made by `python -m tests.benchmarks.accept_strategies`.
"""

import asyncio
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from typing import Protocol

from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.handoff import receive
from lab_support.boundary.inheritance import Entrance

log = logging.getLogger("lab.accept")

MakeProtocol = Callable[[], asyncio.BaseProtocol]

MOMENT = 0.001  # seconds that a better placed API server has to take a connection, before it is asked again, …
PATIENCE = 5  # … so often; then it is taken from it. vLLM's figures
OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
BREATHER = 1.0  # seconds until the next try where descriptors or memory have run out, as in asyncio


class Acceptor(Protocol):
    """Takes connections for one API server. Called in its event loop."""

    async def start(self, make_protocol: MakeProtocol) -> None:
        """From now on connections are taken, each for a new protocol."""

    def stop(self) -> None:
        """Take no more. Open connections go on; what waits in a shared queue is the siblings'."""


def make_acceptor(strategy: str, entrance: Entrance, connections: "OpenConnections", backlog: int) -> Acceptor:
    """The acceptor of one API server for `--accept`."""
    match strategy:
        case "shared" | "reuseport":
            return SharedAccept(entrance.socket, backlog, connections)
        case "exclusive":
            return ExclusiveAccept(entrance, connections, better_placed=lambda: None)
        case "least-loaded":
            return ExclusiveAccept(entrance, connections, better_placed=connections.least_loaded)
        case "handoff":
            return HandedAccept(entrance, connections)
    raise AssertionError(strategy)


class OpenConnections:
    """How many connections this API server has open; its siblings see it as long as it takes new ones."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._accepting = False
        self.count = 0
        self.on_closed: Callable[[], None] = lambda: None

    def accepting(self, accepting: bool) -> None:
        self._accepting = accepting
        self._publish()

    def catch_up(self) -> None:
        """One that comes late is not to make up for what it has missed."""
        self._counters.accepted = max(self._counters.accepted_by_slot())

    def opened(self) -> None:
        self.count += 1
        self._counters.accepted += 1
        self._publish()

    def closed(self) -> None:
        self.count -= 1
        self._publish()
        self.on_closed()

    def least_loaded(self) -> int | None:
        """The slot of the API server with the fewest connections; None where this is the one.

        Among several, the one that has taken fewest so far: in a burst of connections that end at once all have none
        open most of the time, and whoever runs first would take them all.
        """
        everybody = zip(self._counters.connections_by_slot(), self._counters.accepted_by_slot(), strict=True)
        slot, least = min(enumerate(everybody), key=itemgetter(1))
        return slot if least < (self.count, self._counters.accepted) else None

    def _publish(self) -> None:
        self._counters.connections = self.count if self._accepting else TAKES_NONE


class SharedAccept:
    """The event loop's own server on a listening socket that others may have too.

    It calls listen(2) again, as every asyncio server does, and so has to name the same backlog: for all holders of
    the socket, the last call counts.
    """

    def __init__(self, listening_socket: socket.socket, backlog: int, connections: OpenConnections) -> None:
        self._socket = listening_socket
        self._backlog = backlog
        self._connections = connections

    async def start(self, make_protocol: MakeProtocol) -> None:
        def counted() -> asyncio.BaseProtocol:
            self._connections.opened()
            return make_protocol()

        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(counted, sock=self._socket, backlog=self._backlog)  # type: ignore[arg-type]
        self._connections.accepting(True)

    def stop(self) -> None:
        self._connections.accepting(False)
        self._server.close()


class ExclusiveAccept:
    """One wake-up, one connection, and then the back of the wait queue.

    `better_placed` says whose connection this should rather be: the slot of an API server, or None for this one. That
    one is poked, and takes it without being woken by the kernel. Where it does not in time, this one does.

    An API server that is killed after the kernel has woken it, and before it accepts, leaves the connection lying:
    somebody has been woken, so nobody else is. Therefore the launcher pokes the siblings of a dead one.
    """

    def __init__(
        self,
        entrance: Entrance,
        connections: OpenConnections,
        better_placed: Callable[[], int | None],
    ) -> None:
        assert entrance.pokes is not None
        self._socket = entrance.socket
        self._slot = entrance.slot
        self._pokes = entrance.pokes
        self._connections = connections
        self._better_placed = better_placed
        self._pause: asyncio.TimerHandle | None = None  # while it stands back
        self._tries = 0
        connections.on_closed = self._reconsider

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        self._entry = ExclusiveEntry(self._loop, self._socket.fileno(), self._on_readable)
        await self._entry.make()
        self._loop.add_reader(self._pokes.descriptor(self._slot), self._on_poke)
        self._connections.catch_up()
        self._connections.accepting(True)

    def stop(self) -> None:
        self._come_back()
        self._connections.on_closed = lambda: None
        self._connections.accepting(False)
        self._loop.remove_reader(self._pokes.descriptor(self._slot))
        self._entry.close()
        self._socket.close()
        self._pokes.poke_all()  # the kernel may just have woken this one for a connection that it will not take now

    def _on_readable(self) -> None:
        """The kernel has woken this one, or a sibling has."""
        other = self._better_placed()
        if other is None:
            self._take_one()
        else:
            self._tries = PATIENCE
            self._pass_on_to(other)

    def _on_poke(self) -> None:
        """A sibling has a connection for this one, or one of them has died: does anyone wait?"""
        self._pokes.take(self._slot)
        if self._pause is None and self._anyone_waits():
            self._on_readable()
        else:
            self._reconsider()

    def _pass_on_to(self, other: int) -> None:
        self._pokes.poke(other)
        self._stand_back(MOMENT, self._look_again)

    def _look_again(self) -> None:
        self._tries -= 1
        other = self._better_placed()
        if other is None or not self._anyone_waits():
            self._come_back()
        elif self._tries:
            self._pass_on_to(other)
        else:
            self._come_back()
            self._take_one()

    def _reconsider(self) -> None:
        """Something has changed: while standing back, is this one now to take the next?"""
        if self._pause and self._better_placed() is None:
            self._come_back()

    def _stand_back(self, seconds: float, then: Callable[[], None]) -> None:
        """Out of the wait queue for so long: what waits there would wake this one again at once."""
        self._entry.take_out()
        self._pause = self._loop.call_later(seconds, then)

    def _come_back(self) -> None:
        if self._pause:
            self._pause.cancel()
            self._pause = None
            self._entry.put_in()

    def _anyone_waits(self) -> bool:
        queue = select.poll()  # select(2) knows no descriptor above 1023
        queue.register(self._socket, select.POLLIN)
        return bool(queue.poll(0))

    def _take_one(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # a sibling was faster, or the client has gone
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            log.error("cannot accept: %s; connections wait for %g s", error.strerror, BREATHER)
            self._come_back()
            self._stand_back(BREATHER, self._come_back)
            return
        self._entry.to_the_back()
        self._openings.add(accepted)


class Openings:
    """Connections that were accepted in Python, on their way into the event loop."""

    def __init__(self, connections: OpenConnections, make_protocol: MakeProtocol) -> None:
        self._connections = connections
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, accepted: socket.socket) -> None:
        self._connections.opened()
        opening = self._loop.create_task(self._open(accepted))
        self._tasks.add(opening)  # the loop itself keeps no task alive
        opening.add_done_callback(self._tasks.discard)

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, accepted)
        except OSError:  # the client has gone meanwhile
            accepted.close()
            self._connections.closed()


class ExclusiveEntry:
    """A listening socket's entry in uvloop's own epoll set, with EPOLLEXCLUSIVE: one sleeper is woken, not all.

    In an epoll set of ours, which uvloop would watch, the flag does nothing: nobody sleeps on the inner set, so the
    kernel takes nobody for woken and goes on waking. uvloop has no call for the flag. So its set is reached by its
    descriptor, behind libuv's back, which looks at an entry again only when what it watches for changes.

    The kernel wakes the first in the queue that sleeps, which is always the same one where nobody moves. So whoever
    took a connection goes to the back: the entry is taken out and put in again (epoll_ctl(2) has no other way to
    change an exclusive one). Putting it in asks whether more connections wait, so none is forgotten.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, on_readable: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._on_readable = on_readable
        self._epoll: select.epoll | None = None
        self._in = False

    async def make(self) -> None:
        self._loop.add_reader(self._descriptor, self._on_readable)
        backend = getattr(self._loop, "_get_backend_id", None)  # uvloop's, private
        if backend is None:
            log.warning("this event loop does not say where its epoll set is: every API server wakes for a connection")
            self._in = True
            return
        self._epoll = select.epoll.fromfd(os.dup(backend()))
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


class HandedAccept:
    """Takes what the launcher hands over; see boundary/handoff.py."""

    def __init__(self, entrance: Entrance, connections: OpenConnections) -> None:
        self._channel = entrance.socket
        self._connections = connections

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        asyncio.get_running_loop().add_reader(self._channel, self._on_readable)
        self._connections.accepting(True)

    def stop(self) -> None:
        """What lies in the channel has been given to this one, and nobody else can take it while it lives."""
        self._connections.accepting(False)
        asyncio.get_running_loop().remove_reader(self._channel)
        self._on_readable()
        self._channel.close()

    def _on_readable(self) -> None:
        while (accepted := receive(self._channel)) is not None:
            self._openings.add(accepted)
