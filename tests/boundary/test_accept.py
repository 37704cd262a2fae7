"""An acceptor in an event loop that hides its epoll set: no exclusive wake-ups, but every connection is taken."""

import asyncio
import logging
import socket

import pytest

from lab_support.boundary.accept import OpenConnections, make_acceptor
from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.inheritance import Entrance
from lab_support.boundary.pokes import Pokes


class Greeting(asyncio.Protocol):
    """Says who it is, and ends."""

    def __init__(self, name: bytes, connections: OpenConnections) -> None:
        self._name = name
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name)
        transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.closed()


@pytest.mark.parametrize("strategy", ["exclusive", "least-loaded"])
def test_where_the_epoll_set_is_hidden_every_connection_is_taken(
    strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(listening: socket.socket, counters: Counters, pokes: Pokes) -> None:
        connections = OpenConnections(counters.own(0))
        with listening.dup() as own:
            acceptor = make_acceptor(strategy, Entrance(own, 0, pokes), connections, 100)
            await acceptor.start(lambda: Greeting(b"0", connections))
            assert counters.connections == 0
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                assert await reader.read() == b"0"
                writer.close()
                await writer.wait_closed()
            acceptor.stop()
        assert counters.connections == TAKES_NONE

    with (
        caplog.at_level(logging.WARNING),
        socket.create_server(("127.0.0.1", 0)) as listening,
        Counters(2) as counters,
        Pokes(2) as pokes,
    ):
        asyncio.run(talk(listening, counters, pokes))
    assert "every API server wakes" in caplog.text
