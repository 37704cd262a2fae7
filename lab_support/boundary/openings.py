"""Connections that were accepted in Python, on their way into the event loop and to their protocols."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from lab_support.boundary.open_connections import OpenConnections

log = logging.getLogger("lab.accept")

MakeProtocol = Callable[[Callable[[], None]], asyncio.BaseProtocol]
"""Makes the protocol of one connection. The protocol calls the function that it is given when the connection ends."""


class Openings:
    """The openings of one acceptor. Made and used in its event loop."""

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
        """Called for every ended task, even one that was cancelled before its first step."""
        self._tasks.discard(opening)
        error = None if opening.cancelled() else opening.exception()
        if opening.cancelled() or error:
            accepted.close()
            ended()
        if error and not isinstance(error, OSError):  # an OSError means that the client has gone
            log.error("a connection could not be opened", exc_info=error)
