"""One connection of a client: uvicorn's protocol, extended to tell every request on it that the client has left.

A client ends its side with a FIN. close(2) and shutdown(2) both send one, and nothing in it says which of the two it
was. So a half-closed connection counts as left, as it does in nginx, uvicorn and vLLM; so does a reset connection. The
request being answered is then given up at once, and those that wait behind it never start.

uvicorn tells only the newest request, but a client may have pipelined several, and then an older one is being answered.
It also stops reading while a pipelined request waits, so it never sees the FIN (see `http/http_head.py`).
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from lab_support.frontend.http.http_head import GuardedProtocol
from lab_support.frontend.http.memory import Lease, MemoryBudget
from lab_support.frontend.http.response import CUT_OFF, GIVEN_UP, LEFT, SEND_CHUNK

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

FIN = "FIN: closed or half closed"
RESET = "connection reset"
TAKES_NOTHING = "cut off: it took nothing of its answer"
MADE_WAY = "cut off: other clients needed the room"
IDLE, UNFINISHED, TAKING_NOTHING = range(3)  # expendable kinds of connection; the first kind loses least
# Formatting one costs more than the rest of a chunk while another process has the caches.
_SIZE_LINES = tuple(b"%x\r\n" % size for size in range(1024))
STUCK = 2.0  # seconds without progress after which a connection that takes nothing is expendable


class HttpConnection(GuardedProtocol):
    """A connection of a client, from `connection_made` to `connection_lost`. Runs in an API server's event loop.

    The server that makes it sets `memory` and `on_lost`, which is called when the connection ends.
    """

    memory: MemoryBudget | None = None  # counts the bodies of requests that wait behind another answer
    _lease: Lease | None = None
    on_lost: Callable[[], None] = staticmethod(lambda: None)
    _descriptor = -1
    _unsent: object = None  # counts of the bytes that its client has not taken, when they last changed
    _unsent_since = 0.0  # loop.time() of that change

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._begun: RequestResponseCycle | None = None  # the request being answered, or answered last

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._in_head:  # the head is parsed again, without its offer to upgrade
            return
        self.cycle.scope[CUT_OFF] = self.cut_off  # type: ignore[literal-required]
        self.cycle.scope[SEND_CHUNK] = partial(_send_chunk, self.cycle)  # type: ignore[literal-required]
        if not self.pipeline:
            self._begun = self.cycle

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._begun = self.pipeline[-1][0]
        super().on_response_complete()
        if self._lease:
            self._hold_pipelined()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.pipeline and self.memory:
            self._lease = self._lease or self.memory.lease().__enter__()
            self._lease.on_revoke = self._cut_off_for_room
            self._hold_pipelined()

    def _hold_pipelined(self) -> None:
        """Count the bodies of waiting requests; one read(2) may bring a quarter of a megabyte of them at most."""
        assert self._lease
        self._lease.give_back(self._lease.held)
        self._lease.take(sum(len(cycle.body) for cycle, _ in self.pipeline))

    def _cut_off_for_room(self) -> None:
        self.cut_off(GIVEN_UP)

    def eof_received(self) -> None:
        self.leave(FIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell_requests(RESET if exc else FIN)
        super().connection_lost(exc)
        for cycle, _ in self.pipeline:  # otherwise these bodies stay until the next full garbage collection
            cycle.body = bytearray()
        if self._lease:
            self._lease.__exit__()
        self.on_lost()

    def leave(self, reason: str) -> None:
        """The client has left. If it left in the middle of an answer, nothing more of that answer is sent.

        The transport's buffer is dropped too, because a client that has ended its side may never read, and then its
        connection would stay. A complete answer is still sent to its end.
        """
        if self._tell_requests(reason):
            self.transport.abort()

    def cut_off(self, reason: str) -> None:
        """End the connection, even if its client has not taken all of its answer."""
        self.leave(reason)
        self.transport.abort()

    @property
    def answering(self) -> bool:
        """Is a request being read or answered?"""
        return bool(self._unanswered())

    def seconds_without_progress(self, now: float) -> float:
        """Seconds since the client last took any of the bytes that wait for it; 0 if none wait.

        It has taken some if the number of waiting bytes changes, in the transport or in the kernel, whose count changes
        with the client's acknowledgements (tcp(7), SIOCOUTQ). Call it about once a second.
        """
        waiting = self.transport.get_write_buffer_size()
        unsent = (waiting, _queued(self._descriptor, termios.TIOCOUTQ)) if waiting and self._descriptor >= 0 else None
        if unsent is None or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since

    def expendable_since(self, now: float) -> tuple[int, float] | None:
        """(kind, since) if this connection may be ended to make room for others, otherwise None.

        Kinds, the first loses least: IDLE after its last answer; UNFINISHED: silent, or its request is incomplete;
        TAKING_NOTHING of its answer. since: in loop.time(). A client whose bytes wait to be read is neither idle nor
        silent: they arrived during this turn of the event loop, or while this process had no time.
        """
        if self.transport.get_write_buffer_size():
            stuck = self.seconds_without_progress(now)
            return (TAKING_NOTHING, now - stuck) if stuck > STUCK else None
        if _queued(self._descriptor, termios.FIONREAD):
            return None
        if (since := self.idle_since) is not None:
            return IDLE, since
        return None if (since := self.unfinished_since) is None else (UNFINISHED, since)

    def _unanswered(self) -> "list[RequestResponseCycle]":
        """Oldest first: the request being answered, and those that wait behind it."""
        begun = [] if self._begun is None or self._begun.response_complete else [self._begun]
        waiting = [cycle for cycle, _ in reversed(self.pipeline) if cycle is not self._begun]
        return [each for each in begun + waiting if not each.disconnected]

    def _tell_requests(self, reason: str) -> bool:
        """Tell each request without a complete answer that its client has left; was there any?"""
        unanswered = self._unanswered()
        for cycle in unanswered:
            cycle.scope[LEFT] = reason  # type: ignore[literal-required]
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_writing()
        return bool(unanswered)


def _send_chunk(cycle: "RequestResponseCycle", body: bytes) -> bool:
    """Send a further chunk of an answer if that needs no waiting, as the cycle's own `send` would do.

    False: nothing is sent, and `send` must be asked. For each streamed token this saves a coroutine and a message.
    """
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_complete or not cycle.chunked_encoding:
        return False
    size = len(body)
    cycle.transport.write((_SIZE_LINES[size] if size < len(_SIZE_LINES) else b"%x\r\n" % size) + body + b"\r\n")
    return True


def _queued(descriptor: int, queue: int) -> int:
    """Bytes in a queue of a socket in the kernel (tcp(7)); 0 if the kernel doesn't say.

    queue: FIONREAD, bytes that have come and were not read, or TIOCOUTQ (which is SIOCOUTQ), not acknowledged yet.
    """
    count = bytearray(4)
    with suppress(OSError):
        fcntl.ioctl(descriptor, queue, count)
    return int.from_bytes(count, sys.byteorder)
