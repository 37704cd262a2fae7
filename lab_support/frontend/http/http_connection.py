"""One connection of a client: uvicorn's protocol, which here tells every request on it of the client's end.

A client ends its side with a FIN. close(2) and shutdown(2) both send one, and nothing in it says which of the two it
was: so a half-closed connection counts as left, as it does in nginx, in uvicorn and in vLLM. A reset counts, too.
Whatever is being answered then is given up at once, and what waits behind it is never begun.

uvicorn tells the newest request alone, but a client may have pipelined several, and the one that is being answered is
an older one. And it stops reading where a pipelined request waits, so that it does not come to the FIN: `http_head.py`.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from lab_support.frontend.http.http_head import GuardedProtocol
from lab_support.frontend.http.memory import Lease, MemoryBudget
from lab_support.frontend.http.response import CUT_OFF, GIVEN_UP, LEFT

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

FIN = "FIN: closed or half closed"
RESET = "connection reset"
TAKES_NOTHING = "it took nothing of its answer"
MADE_WAY = "others had no room"
IDLE, UNFINISHED, TAKING_NOTHING = range(3)  # how little a connection loses that makes room for others
STUCK = 2.0  # seconds without progress, from which on one of the last kind is expendable


class HttpConnection(GuardedProtocol):
    """A connection of a client, from `connection_made` to `connection_lost`. Runs in an API server's event loop.

    memory, on_lost: set by the server that makes it; `on_lost` is called at its end.
    """

    memory: MemoryBudget | None = None  # holds the bodies of requests that wait for the answer before theirs
    _lease: Lease | None = None
    on_lost: Callable[[], None] = staticmethod(lambda: None)
    _descriptor = -1
    _unsent: object = None  # what its client had not taken when that was last seen to change, and when that was
    _unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._begun: RequestResponseCycle | None = None  # the one that is being answered, or was last

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._in_head:  # it is read again, without its offer
            return
        self.cycle.scope[CUT_OFF] = self.cut_off  # type: ignore[literal-required]
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
        """What one read(2) brings of requests that nobody reads yet: a quarter of a megabyte at most."""
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
        for cycle, _ in self.pipeline:  # or these bodies would stay until the next full garbage collection
            cycle.body = bytearray()
        if self._lease:
            self._lease.__exit__()
        self.on_lost()

    def leave(self, reason: str) -> None:
        """The client has left. Where that was in the middle of an answer, nothing more of it is sent.

        What stands in the transport's buffer goes with it: a client that has ended its side need not ever read, and
        its connection would stay. An answer that is whole is still sent to its end.
        """
        if self._tell_requests(reason):
            self.transport.abort()

    def cut_off(self, reason: str) -> None:
        """End it, whatever its client has not taken."""
        self.leave(reason)
        self.transport.abort()

    @property
    def answering(self) -> bool:
        """Is a request being answered, or read?"""
        return bool(self._unanswered())

    def seconds_without_progress(self, now: float) -> float:
        """For how long its client has taken nothing of what it is to get; 0 where nothing waits for it.

        It takes something where fewer bytes wait in the transport, or other ones in the kernel: the kernel's own
        count changes with what the client acknowledges (tcp(7), SIOCOUTQ). To be called about once a second.
        """
        waiting = self.transport.get_write_buffer_size()
        unsent = (waiting, _unacknowledged(self._descriptor)) if waiting and self._descriptor >= 0 else None
        if unsent is None or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since

    def expendable_since(self, now: float) -> tuple[int, float] | None:
        """Its place among those that may end so that others have room, first those who lose least; None: it may not.

        0: idle after its last answer; 1: silent, or its request is not whole; 2: it takes nothing of its answer. And
        since when, as loop.time().
        """
        if self.transport.get_write_buffer_size():
            stuck = self.seconds_without_progress(now)
            return (TAKING_NOTHING, now - stuck) if stuck > STUCK else None
        if (since := self.idle_since) is not None:
            return IDLE, since
        return None if (since := self.unfinished_since) is None else (UNFINISHED, since)

    def _unanswered(self) -> "list[RequestResponseCycle]":
        """Oldest first: the one that is being answered, and those that wait behind it."""
        begun = [] if self._begun is None or self._begun.response_complete else [self._begun]
        waiting = [cycle for cycle, _ in reversed(self.pipeline) if cycle is not self._begun]
        return [each for each in begun + waiting if not each.disconnected]

    def _tell_requests(self, reason: str) -> bool:
        """Tell each request without a whole answer that its client has left; was there any?"""
        unanswered = self._unanswered()
        for cycle in unanswered:
            cycle.scope[LEFT] = reason  # type: ignore[literal-required]
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_writing()
        return bool(unanswered)


def _unacknowledged(descriptor: int) -> int:
    """Bytes in the kernel's send queue of a socket; 0 where the kernel doesn't tell. SIOCOUTQ has TIOCOUTQ's number."""
    count = bytearray(4)
    with suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, count)
    return int.from_bytes(count, sys.byteorder)
