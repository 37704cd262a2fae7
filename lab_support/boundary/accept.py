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

None of them takes a connection that it has no room for (boundary/room.py): that waits, or goes to a sibling.
"""

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from lab_support.boundary.handoff import LAUNCHER, receive
from lab_support.boundary.inheritance import Entrance
from lab_support.boundary.listening_entry import ExclusiveEntry, ServerEntry
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.room import BREATHER, NoRoom, Room, accept, port_of

log = logging.getLogger("lab.accept")

MakeProtocol = Callable[[Callable[[], None]], asyncio.BaseProtocol]
"""Makes the protocol of one connection, which is to call what it is given once that has ended."""

MOMENT = 0.001  # seconds that a better placed API server has to take a connection, before it is asked again, …
PATIENCE = 5  # … so often; then it is taken from it. vLLM's figures


class Acceptor(Protocol):
    """Takes connections for one API server. Called in its event loop."""

    async def start(self, make_protocol: MakeProtocol) -> None:
        """From now on connections are taken, each for a new protocol. Raises `NoRoom` where not even one can be."""

    def stop(self) -> None:
        """Take no more. Open connections go on; what waits in a shared queue is the siblings'."""


def make_acceptor(strategy: str, entrance: Entrance, connections: OpenConnections, backlog: int) -> Acceptor:
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


class SharedAccept:
    """The event loop's own server on a listening socket that others may have too.

    It calls listen(2) again, as every asyncio server does, and so has to name the same backlog: for all holders of
    the socket, the last call counts.

    libuv does not look for room before it accepts. So this one looks after each connection whether there is room for
    the next, and now and then, as the limit may have been lowered (prlimit(2)).
    """

    def __init__(self, listening_socket: socket.socket, backlog: int, connections: OpenConnections) -> None:
        self._socket = listening_socket
        self._backlog = backlog
        self._connections = connections

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        descriptor = self._socket.fileno()
        self._entry = ServerEntry(self._loop, descriptor)
        self._room = Room(
            descriptor, self._connections, self._entry.take_out, self._entry.put_in, port=port_of(self._socket)
        )
        self._connections.on_closed = self._room.on_closed
        self._server = await self._loop.create_server(self._make_counted, sock=self._socket, backlog=self._backlog)  # type: ignore[arg-type]
        self._connections.accepting(True)
        self._look_now_and_then()

    def stop(self) -> None:
        self._next_look.cancel()
        self._room.close()
        self._connections.on_closed = lambda: None
        self._connections.accepting(False)
        self._server.close()
        self._entry.close()

    def _make_counted(self) -> asyncio.BaseProtocol:
        protocol = self._make_protocol(self._connections.opened())
        self._room.look()
        return protocol

    def _look_now_and_then(self) -> None:
        self._room.look()
        self._next_look = self._loop.call_later(BREATHER, self._look_now_and_then)


class ExclusiveAccept:
    """One wake-up, one connection, and then the back of the wait queue.

    `better_placed` says whose connection this should rather be: the slot of an API server, or None for this one. That
    one is poked, and takes it without being woken by the kernel. Where it does not in time, this one does.

    Whoever leaves a connection lying for which the kernel has woken it pokes its siblings, because nobody else has been
    woken: one that has no room, or stops. For one that is killed in between, the launcher does it.
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
        self._pause: asyncio.TimerHandle | None = None  # while it stands back for a better placed one
        self._tries = 0

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        descriptor = self._socket.fileno()
        self._queue = select.poll()  # select(2) knows no descriptor above 1023
        self._queue.register(descriptor, select.POLLIN)
        self._room = Room(descriptor, self._connections, self._leave, self._return, port=port_of(self._socket))
        self._entry = ExclusiveEntry(self._loop, descriptor, self._on_readable)
        await self._entry.make()
        self._loop.add_reader(self._pokes.descriptor(self._slot), self._on_poke)
        self._connections.on_closed = self._on_closed
        self._connections.catch_up()
        self._connections.accepting(True)

    def stop(self) -> None:
        self._room.close()
        self._end_pause()
        self._connections.on_closed = lambda: None
        self._connections.accepting(False)
        self._loop.remove_reader(self._pokes.descriptor(self._slot))
        self._entry.close()
        self._socket.close()
        self._pokes.poke_all()  # the kernel may just have woken this one for a connection that it will not take now

    def _on_readable(self) -> None:
        """The kernel has woken this one."""
        if self._room.is_shut:
            self._pokes.poke_others(self._slot)  # it was woken in the moment in which it left
        elif self._pause is None:
            self._take_or_pass_on()

    def _on_poke(self) -> None:
        """A sibling has a connection for this one, or one of them has died: does anyone wait?"""
        self._pokes.take(self._slot)
        if self._room.is_shut:
            return
        if self._pause is None and self._anyone_waits():
            self._take_or_pass_on()
        else:
            self._reconsider()

    def _on_closed(self) -> None:
        self._room.on_closed()
        self._reconsider()

    def _take_or_pass_on(self) -> None:
        other = self._better_placed()
        if other is None:
            self._take_one()
        else:
            self._tries = PATIENCE
            self._pass_on_to(other)

    def _pass_on_to(self, other: int) -> None:
        """Out of the wait queue for a moment: what waits there would wake this one again at once."""
        self._pokes.poke(other)
        self._end_pause()
        self._entry.take_out()
        self._pause = self._loop.call_later(MOMENT, self._look_again)

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

    def _end_pause(self) -> None:
        if self._pause:
            self._pause.cancel()
            self._pause = None

    def _come_back(self) -> None:
        if self._pause:
            self._end_pause()
            self._entry.put_in()

    def _leave(self) -> None:
        """There is no room. The kernel may have woken this one alone for what waits."""
        self._end_pause()
        self._entry.take_out()
        self._pokes.poke_others(self._slot)

    def _return(self) -> None:
        self._connections.catch_up()
        self._entry.put_in()

    def _anyone_waits(self) -> bool:
        return bool(self._queue.poll(0))

    def _take_one(self) -> None:
        if not self._room.look():
            return
        try:
            accepted = accept(self._socket)
        except NoRoom as why:
            self._room.run_out(str(why))
            return
        if accepted:  # otherwise a sibling was faster, or the client has gone
            self._entry.to_the_back()
            self._openings.add(accepted)


class Openings:
    """Connections that were accepted in Python, on their way into the event loop."""

    def __init__(self, connections: OpenConnections, make_protocol: MakeProtocol) -> None:
        self._connections = connections
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()

    def add(self, accepted: socket.socket) -> None:
        ended = self._connections.opened()
        opening = self._loop.create_task(self._open(accepted, ended))
        self._tasks.add(opening)  # the loop itself keeps no task alive
        opening.add_done_callback(partial(self._on_done, accepted, ended))

    async def _open(self, accepted: socket.socket, ended: Callable[[], None]) -> None:
        await self._loop.connect_accepted_socket(partial(self._make_protocol, ended), accepted)

    def _on_done(self, accepted: socket.socket, ended: Callable[[], None], opening: asyncio.Task[object]) -> None:
        """Called for every end, also of a task that was cancelled before its first step."""
        self._tasks.discard(opening)
        error = None if opening.cancelled() else opening.exception()
        if opening.cancelled() or error:
            accepted.close()
            ended()
        if error and not isinstance(error, OSError):  # an OSError: the client has gone meanwhile
            log.error("a connection could not be opened", exc_info=error)


class HandedAccept:
    """Takes what the launcher hands over; see boundary/handoff.py.

    While this one has no room, and once it stops, it reads no more: the launcher takes back what lies in the channel.
    """

    def __init__(self, entrance: Entrance, connections: OpenConnections) -> None:
        assert entrance.pokes is not None
        self._channel = entrance.socket
        self._pokes = entrance.pokes
        self._connections = connections

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        self._loop = asyncio.get_running_loop()
        self._room = Room(self._channel.fileno(), self._connections, self._leave, self._return, handed=True)
        self._connections.on_closed = self._room.on_closed
        self._loop.add_reader(self._channel, self._on_readable)
        self._connections.accepting(True)

    def stop(self) -> None:
        self._connections.accepting(False)
        self._connections.on_closed = lambda: None
        if not self._room.is_shut:
            self._on_readable()  # the launcher may be on its way out, and takes nothing back any more
        self._loop.remove_reader(self._channel)
        self._room.close()
        self._channel.close()
        self._pokes.poke(LAUNCHER)

    def _on_readable(self) -> None:
        while self._room.look():
            try:
                accepted = receive(self._channel)
            except BlockingIOError:
                return
            if accepted:
                self._room.port = port_of(accepted)  # it never saw the listening socket
                self._openings.add(accepted)
            else:
                self._connections.lost()

    def _leave(self) -> None:
        self._loop.remove_reader(self._channel)
        self._pokes.poke(LAUNCHER)

    def _return(self) -> None:
        self._loop.add_reader(self._channel, self._on_readable)
        self._pokes.poke(LAUNCHER)
