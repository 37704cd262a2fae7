"""The HTTP server of an API server: uvicorn, but an acceptor brings its connections and it handles no signals.

Runs in API servers only, in their event loop. `boundary/accept.py` accepts connections, `http/http_head.py` limits
what clients may send, `http/http_connection.py` handles their end, and `routes.py` answers.

It was chosen among five, all measured with this application (`python -m tests.benchmarks.http_servers`; CPU of the
server's process on two cores, medians of 16 rounds):

                           /ping  one token  streamed token  left to us
    uvicorn + httptools    62 µs     223 µs         38.0 µs  limits, deadlines, upgrades, trailers, order of errors
    uvicorn + h11         144 µs     360 µs         44.6 µs  deadlines; bare LF, folded fields, two framings at once
    hypercorn             259 µs     438 µs         53.5 µs  as h11; half-closed connections go on
    granian, embedded     105 µs     269 µs         38.3 µs  it accepts by itself, so only one --accept is left of five
    aiohttp's server       85 µs     257 µs         40.7 µs  unlimited trailers and chunk extensions

So none is cheaper, its parser is the strictest, and every --accept works. The price is `http/http_head.py`.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import cast

import uvicorn

from lab_support.boundary.accept import Acceptor
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.room import VISITORS
from lab_support.boundary.waiting_clients import Waiting
from lab_support.frontend.http.http_connection import IDLE, MADE_WAY, TAKES_NOTHING, HttpConnection
from lab_support.frontend.http.middleware import Served
from lab_support.frontend.http.traced_connection import traced
from lab_support.tracing.trace import Trace

log = logging.getLogger("lab.api")

KEEP_ALIVE = 5  # seconds that an idle connection stays open, as in vLLM
PATIENCE = 10.0  # seconds that an ending connection waits for a client that takes nothing of its answer
MANY = 2 * VISITORS  # waiting clients
GRACE = 3.0  # seconds that a client has for its request while others may be waiting for the descriptor
TURNS = 8  # of the event loop, in which a server that is told to stop takes whoever is there
SEND_TIMEOUT = 60.0  # seconds that any other connection waits for such a client, as in nginx


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers and without listeners of its own: `acceptor` brings the connections.

    on_started: called once it accepts connections. patience: seconds that a retiring server waits for a client that
    takes nothing of its answer. Made and used in one event loop.
    """

    def __init__(
        self,
        app: Served,
        acceptor: Acceptor,
        connections: OpenConnections,
        on_started: Callable[[], None],
        trace: Trace | None = None,
    ) -> None:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                http=HttpConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        self._app = app
        self._acceptor = acceptor
        self._connections = connections
        self._on_started = on_started
        self._connection = traced(trace) if trace and trace.on else HttpConnection
        self.patience = PATIENCE
        self._retiring = False
        connections.make_room = self._make_room

    async def run_to_end(self) -> None:
        """Serve until `should_exit` is set or `retire` is called and, after that, the last connection is closed."""
        await self.serve(sockets=[])
        self._app.publish()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: the event loop has them, and the launcher's signals concern the whole server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._acceptor.start(self._make_protocol)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self._retiring:
            await self._let_in()
            self._acceptor.stop()
        await super().shutdown(sockets)

    async def _let_in(self) -> None:
        """Take those that are in the queue by now, and what they have sent: what is closed unread, the kernel resets.

        This process may have had no CPU time until now. Each turn of the loop asks the kernel what is ready: one for
        the queue, one for a task that opens the connection, the others for the requests.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def retire(self) -> None:
        """Accept no more connections, and end when the last one has ended.

        A connection between two requests stays open, because its client may be sending at this moment: it ends with the
        next answer, which says so, or by the keep-alive timeout. uvicorn's own shutdown closes it at once.

        A second call does nothing: the next successor may call it, if the first has died meanwhile, or a call may come
        during the shutdown.
        """
        if self._retiring or self.should_exit:
            return
        self._app.close_connections()
        self._acceptor.stop()
        self._retiring = True
        asyncio.get_running_loop().call_later(KEEP_ALIVE, self._close_idle)

    def _close_idle(self) -> None:
        """Close connections without a request, and those whose request was begun but not continued.

        uvicorn has no keep-alive timeout for either: its timeout starts with an answer, and any byte cancels it.
        """
        for connection in self._open():
            if not connection.answering:
                connection.transport.close()

    def _make_room(self, waiting: Waiting | None) -> None:
        """End a quarter of the expendable connections, because there is no descriptor for waiting ones.

        A connection that is idle after its answer makes way for any client, as in nginx. One that has not finished its
        request, or never began one, makes way only for a client that has sent something, because a silent one is in no
        hurry. It has `GRACE` seconds, but none once more clients wait (`MANY`) than the reserve could serve.
        """
        now = asyncio.get_running_loop().time()
        found = [(place, connection) for connection in self._open() if (place := connection.expendable_since(now))]
        found = [each for each in found if _makes_way(*each[0], waiting, now)]
        found.sort(key=itemgetter(0))
        for _, connection in found[: max(1, len(found) // 4)]:
            connection.cut_off(MADE_WAY)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second. True: end."""
        if counter % 10 == 0:
            self._look_at_times()
        return await super().on_tick(counter) or (self._retiring and not self._connections.count)

    def _look_at_times(self) -> None:
        """Once a second, end slow heads, refused clients that keep sending, and clients that take nothing."""
        now = asyncio.get_running_loop().time()
        for connection in self._open():
            connection.look_at_time(now)
            self._look_at_reader(connection, now)

    def _look_at_reader(self, connection: HttpConnection, now: float) -> None:
        """Cut off a client that does not read: it would hold memory, a connection and a retiring API server."""
        ending = self._retiring or connection.transport.is_closing()
        patience = self.patience if ending else SEND_TIMEOUT
        if connection.seconds_without_progress(now) >= patience:
            log.warning("a client took nothing of its answer for %g s, so it is cut off", patience)
            connection.cut_off(TAKES_NOTHING)

    def stop_waiting(self) -> None:
        """End without waiting for clients that don't read their last event."""
        self.force_exit = True

    def _open(self) -> list[HttpConnection]:
        return cast(list[HttpConnection], list(self.server_state.connections))

    def _make_protocol(self, on_lost: Callable[[], None]) -> asyncio.Protocol:
        connection = self._connection(self.config, self.server_state, self.lifespan.state)
        connection.memory = self._app.memory
        connection.on_lost = on_lost
        return connection


def _makes_way(kind: int, since: float, waiting: Waiting | None, now: float) -> bool:
    if kind == IDLE:
        return True
    if waiting is None:  # nothing can tell whether clients wait
        return now - since >= GRACE
    return waiting.asking > 0 and (waiting.clients > MANY or now - since >= GRACE)
