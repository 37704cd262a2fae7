"""Acceptors of every strategy in processes of their own, on uvloop, with a launcher that hands over where one has to.

The process that accepts a connection sends its slot in one byte, and waits for the client to leave.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import connection

import uvloop

from lab_support.boundary.accept import make_acceptor
from lab_support.boundary.counters import Counters
from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.listener import Listener, make_listener
from lab_support.boundary.open_connections import OpenConnections
from lab_support.config import ServerConfig
from lab_support.supervision.python_processes import stop_python_processes

STRATEGIES = ("shared", "exclusive", "least-loaded", "reuseport", "handoff")


def until(holds: Callable[[], object], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


class Welcome(asyncio.Protocol):
    """Says who it is, and waits for the client to go."""

    def __init__(self, name: bytes, ended: Callable[[], None]) -> None:
        self._name = name
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._name)  # type: ignore[attr-defined]  # uvloop's are no asyncio.Transport

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()


def welcome_all(
    strategy: str, source: AcceptSource, counters: Counters, loop: Callable, told: connection.Connection
) -> None:
    """Runs in a process of its own until the other end of `told` is closed; then it stops, and says what it counts."""

    async def serve() -> None:
        await open_and_close_one()
        connections = OpenConnections(counters.claim(source.slot))
        acceptor = make_acceptor(strategy, source, connections, 100)
        await acceptor.start(lambda ended: Welcome(b"%d" % source.slot, ended))
        told.send("ready")
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_reader(told.fileno(), stopped.set)
        await stopped.wait()
        acceptor.stop()

    loop(serve())


async def open_and_close_one() -> None:
    """With the first one, libuv opens a descriptor for itself."""
    ours, theirs = socket.socketpair()
    number, ended = ours.fileno(), asyncio.Event()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: Welcome(b"", ended.set), ours)
    theirs.close()
    await ended.wait()
    while os.path.exists(f"/proc/self/fd/{number}"):
        await asyncio.sleep(0.001)


class Acceptors:
    """So many of one strategy. `listener` is the launcher's side, which a thread of the test looks after."""

    def __init__(self, strategy: str, listener: Listener, counters: Counters) -> None:
        self.strategy = strategy
        self.listener = listener
        self.counters = counters
        self.processes: list[multiprocessing.process.BaseProcess] = []

    @property
    def address(self) -> tuple[str, int]:
        return self.listener.bound.getsockname()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def limit(self, slot: int) -> int:
        return resource.prlimit(self.processes[slot].pid or 0, resource.RLIMIT_NOFILE)[0]

    def set_limit(self, slot: int, limit: int) -> None:
        pid = self.processes[slot].pid or 0
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))

    def descriptors(self, slot: int) -> set[int]:
        return set(map(int, os.listdir(f"/proc/{self.processes[slot].pid}/fd")))

    def sockets(self, slot: int) -> set[int]:
        """Without files that are open for a moment, as /proc/net/tcp is while clients wait."""
        found = set()
        for number in self.descriptors(slot):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"/proc/{self.processes[slot].pid}/fd/{number}").startswith("socket:"):
                    found.add(number)
        return found

    def leave_room_for(self, slot: int, connections: int, reserve: int) -> None:
        """Lower its limit, so that it has numbers for so many, and `reserve` behind them."""
        used = self.descriptors(slot)
        free = (number for number in itertools.count() if number not in used)
        self.set_limit(slot, next(itertools.islice(free, connections - 1, None)) + 1 + reserve)

    def greeted(self, clients: list[socket.socket]) -> Counter[bytes]:
        """The slots that have greeted them; b"" is a connection that was cut."""
        found: Counter[bytes] = Counter()
        for client in clients:
            try:
                found[client.recv(1)] += 1
            except ConnectionError:
                found[b""] += 1
        return found


@contextlib.contextmanager
def acceptors(strategy: str, count: int = 2, loop: Callable = uvloop.run) -> Iterator[Acceptors]:
    with contextlib.ExitStack() as stack:
        counters = stack.enter_context(Counters(count))
        listener = stack.enter_context(make_listener(ServerConfig(port=0, accept=strategy), counters))
        made = Acceptors(strategy, listener, counters)
        stack.callback(stop_python_processes)
        for slot in range(count):
            _start(made, slot, loop, stack)
        ours, theirs = map(stack.enter_context, socket.socketpair())
        thread = threading.Thread(target=_look_after, args=(listener, theirs))
        thread.start()
        stack.callback(thread.join)
        stack.callback(ours.shutdown, socket.SHUT_WR)
        yield made


def _start(made: Acceptors, slot: int, loop: Callable, stack: contextlib.ExitStack) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = map(stack.enter_context, spawn.Pipe())
    source = made.listener.open_for(slot)
    process = spawn.Process(target=welcome_all, args=(made.strategy, source, made.counters, loop, theirs))
    process.start()
    made.listener.close_our_copy(source)
    made.processes.append(process)
    stack.callback(process.join)
    stack.callback(process.kill)
    assert ours.poll(30) and ours.recv() == "ready"


def _look_after(listener: Listener, stopping: socket.socket) -> None:
    """The work of the launcher's main thread."""
    while True:
        due = None if listener.due is None else max(0.0, listener.due - time.monotonic())
        ready = connection.wait([stopping, *listener.waitables], due)
        if stopping in ready:
            return
        if ready:
            listener.on_readable()
        listener.on_due()
