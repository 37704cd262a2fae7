"""The API server's side of `--accept`: the strategies that decide which API server takes the next connection.

shared        Every API server watches the one listening socket, and any of them may accept.
exclusive     The same socket, but the kernel wakes one API server for each connection: EPOLLEXCLUSIVE.
least-loaded  The default. Like exclusive, but if another API server has fewer connections, the woken one pokes that.
handoff       The launcher accepts, and passes each connection to the API server that has the fewest.
reuseport     Like shared, on a socket of its own: the kernel has already chosen it by a hash.

An acceptor takes a connection and gives it to a protocol, as the event loop's own server would; it runs in that loop.
All of them run on uvloop, so the choice costs a token nothing. It does cost something per connection: `shared` and
`reuseport` accept in C, the others in Python with a task each; going to the back of the wait queue takes two more
system calls (epoll_ctl(2), a microsecond). `python -m tests.benchmarks.accept_strategies` measures this.

No strategy takes a connection without room for it (boundary/room.py): the connection waits, or goes to a sibling.
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
        """Take connections from now on, each for a new protocol. Raises `NoRoom` if there is no room for even one."""

    def stop(self) -> None:
        """Take no more. Open connections go on; those that wait in a shared queue are left to the siblings."""


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
    """The event loop's own server on a listening socket that siblings may hold too.

    It calls listen(2) again, as every asyncio server does, and must name the same backlog, because the last call
    counts for all holders of the socket.

    libuv does not check for room before it accepts. So this class checks after each connection whether there is room
    for the next, and once every `BREATHER`, because the limit may have been lowered (prlimit(2)).
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
    """Takes the connections that the launcher hands over; see boundary/handoff.py.

    It does not read while it has no room, nor once it has stopped; the launcher takes back what is left in the channel.
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
            self._on_readable()  # the launcher may be ending too, and would then take nothing back
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
                self._room.port = port_of(accepted)  # under handoff only the launcher has the listening socket
                self._openings.add(accepted)
            else:
                self._connections.lost()

    def _leave(self) -> None:
        self._loop.remove_reader(self._channel)
        self._pokes.poke(LAUNCHER)

    def _return(self) -> None:
        self._loop.add_reader(self._channel, self._on_readable)
        self._pokes.poke(LAUNCHER)
