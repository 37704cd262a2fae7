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
import socket
from typing import Protocol

from lab_support.boundary.exclusive_accept import ExclusiveAccept
from lab_support.boundary.handoff import LAUNCHER, receive
from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.listening_entry import ServerEntry
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.openings import MakeProtocol, Openings
from lab_support.boundary.room import BREATHER, Room, port_of


class Acceptor(Protocol):
    """Takes connections for one API server. Called in its event loop."""

    async def start(self, make_protocol: MakeProtocol) -> None:
        """From now on connections are taken, each for a new protocol. Raises `NoRoom` where not even one can be."""

    def stop(self) -> None:
        """Take no more. Open connections go on; what waits in a shared queue is the siblings'."""


def make_acceptor(strategy: str, source: AcceptSource, connections: OpenConnections, backlog: int) -> Acceptor:
    """The acceptor of one API server for `--accept`."""
    match strategy:
        case "shared" | "reuseport":
            return SharedAccept(source.socket, backlog, connections)
        case "exclusive":
            return ExclusiveAccept(source, connections, better_placed=lambda: None)
        case "least-loaded":
            return ExclusiveAccept(source, connections, better_placed=connections.least_loaded)
        case "handoff":
            return HandedAccept(source, connections)
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
        self._connections.set_accepting(True)
        self._look_now_and_then()

    def stop(self) -> None:
        self._next_look.cancel()
        self._room.close()
        self._connections.on_closed = lambda: None
        self._connections.set_accepting(False)
        self._server.close()
        self._entry.close()

    def _make_counted(self) -> asyncio.BaseProtocol:
        protocol = self._make_protocol(self._connections.opened())
        self._room.shut_if_full()
        return protocol

    def _look_now_and_then(self) -> None:
        self._room.shut_if_full()
        self._next_look = self._loop.call_later(BREATHER, self._look_now_and_then)


class HandedAccept:
    """Takes what the launcher hands over; see boundary/handoff.py.

    While this one has no room, and once it stops, it reads no more: the launcher takes back what lies in the channel.
    """

    def __init__(self, source: AcceptSource, connections: OpenConnections) -> None:
        assert source.pokes is not None
        self._channel = source.socket
        self._pokes = source.pokes
        self._connections = connections

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        self._loop = asyncio.get_running_loop()
        self._room = Room(self._channel.fileno(), self._connections, self._leave, self._return, handed=True)
        self._connections.on_closed = self._room.on_closed
        self._loop.add_reader(self._channel, self._on_readable)
        self._connections.set_accepting(True)

    def stop(self) -> None:
        self._connections.set_accepting(False)
        self._connections.on_closed = lambda: None
        if not self._room.is_shut:
            self._on_readable()  # the launcher may be on its way out, and takes nothing back any more
        self._loop.remove_reader(self._channel)
        self._room.close()
        self._channel.close()
        self._pokes.poke(LAUNCHER)

    def _on_readable(self) -> None:
        while not self._room.shut_if_full():
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
