"""A client's connection under --trace-dir: it notes when it was accepted, and when each request's head was complete.

A class of its own, chosen at the start, so that the parser's callbacks cost nothing without a trace.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from lab_support.frontend.http.http_connection import HttpConnection
from lab_support.frontend.trace.request_trace import RECEIVED
from lab_support.tracing.trace import Trace

_LAST_DATA_RECEIVED = 52  # offset of tcpi_last_data_recv in struct tcp_info: <linux/tcp.h>


def traced(trace: Trace) -> Callable[..., HttpConnection]:
    """Makes connections that write to `trace`; called as `HttpConnection` is."""

    def make(*arguments: Any) -> HttpConnection:
        connection = TracedConnection(*arguments)
        connection.trace = trace
        return connection

    return make


class TracedConnection(HttpConnection):
    """Made by `traced`."""

    trace: Trace
    _accepted_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._accepted_at = monotonic()
        self.trace.first("first connection accepted", _waited(transport.get_extra_info("socket")))
        super().connection_made(transport)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if not self._in_head:
            self.cycle.scope[RECEIVED] = (monotonic(), self._accepted_at)  # type: ignore[literal-required]


def _waited(connection: socket.socket) -> str:
    """How long the connection, or its last byte, has been in this machine's kernel (tcp(7), TCP_INFO), in words."""
    with suppress(OSError, AttributeError, struct.error):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (milliseconds,) = struct.unpack_from("I", info, _LAST_DATA_RECEIVED)
        return f"{milliseconds} ms after its last byte came"
    return ""
