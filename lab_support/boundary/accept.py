"""Who takes the next connection: the strategies of `--accept`, as an API server sees them. It runs in its event loop.

shared      Every API server has the one listening socket in its event loop, which accepts as it likes: today's uvicorn.

An acceptor takes a connection and gives it to a protocol, as the event loop's own server would. All strategies run on
uvloop: a token pays nothing for the choice.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from lab_support.boundary.counters import TAKES_NONE, Counters

MakeProtocol = Callable[[], asyncio.BaseProtocol]


class Acceptor(Protocol):
    """Takes connections for one API server. Called in its event loop."""

    async def start(self, make_protocol: MakeProtocol) -> None:
        """From now on connections are taken, each for a new protocol."""

    def stop(self) -> None:
        """Take no more. Open connections go on; what waits in a shared queue is the siblings'."""


class OpenConnections:
    """How many connections this API server has open; its siblings see it as long as it takes new ones."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._accepting = False
        self.count = 0

    def accepting(self, accepting: bool) -> None:
        self._accepting = accepting
        self._publish()

    def opened(self) -> None:
        self.count += 1
        self._publish()

    def closed(self) -> None:
        self.count -= 1
        self._publish()

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
