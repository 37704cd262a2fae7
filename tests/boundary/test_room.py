"""Processes that have no descriptor left for another connection: no client is cut, siblings with room take over."""

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import socket
import struct
from collections.abc import Iterator

import pytest
import uvloop

from lab_support.boundary.accept import make_acceptor
from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.handoff import Handoff, receive
from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.pokes import Pokes
from lab_support.boundary.room import RESERVE, NoRoom, demand_room
from lab_support.config import ServerConfig
from tests.boundary.acceptors import STRATEGIES, Acceptors, Welcome, acceptors, until

ROOM, CLIENTS = 4, 40


@pytest.fixture(scope="module", autouse=True)
def libuv() -> None:
    """It opens a pipe for signals at its first use in a process, and keeps it."""
    uvloop.new_event_loop().close()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whoever_has_no_descriptor_left_cuts_nobody_and_the_sibling_takes_over(strategy: str) -> None:
    with acceptors(strategy) as made, contextlib.ExitStack() as stack:
        before, held = made.limit(0), made.descriptors(0)
        made.leave_room_for(0, ROOM, RESERVE)
        clients = [stack.enter_context(made.connect()) for _ in range(CLIENTS)]
        if strategy == "reuseport":  # the kernel has dealt them out, and a queue of its own is nobody else's
            until(lambda: made.counters.connections_by_slot()[0] == TAKES_NONE)
            made.set_limit(0, before)
        greeted = made.greeted(clients)
        assert greeted[b""] == 0, greeted
        assert greeted[b"0"] + greeted[b"1"] == CLIENTS
        if strategy == "reuseport":
            return
        assert greeted[b"0"] <= ROOM
        # The last numbers are no connection's.
        assert all(number < made.limit(0) - RESERVE for number in made.sockets(0) - held)
        # Once its clients have gone there is room again, without a change of the limit.
        for client in clients:
            client.close()
        until(lambda: made.counters.connections_by_slot() == [0, 0])
        made.set_limit(0, before)
        later = [stack.enter_context(made.connect()) for _ in range(CLIENTS)]
        assert min(made.greeted(later).values()) >= (CLIENTS / 4 if strategy in {"least-loaded", "handoff"} else 0)


@pytest.mark.parametrize("strategy", ["exclusive", "least-loaded", "handoff", "shared"])
def test_each_that_comes_alone_is_taken_by_the_sibling_at_once(strategy: str) -> None:
    """The kernel may wake only the one without room for it."""
    with acceptors(strategy) as made, contextlib.ExitStack() as stack:
        made.leave_room_for(0, 1, RESERVE)
        for _ in range(2 * ROOM):
            assert made.greeted([stack.enter_context(made.connect())])[b""] == 0
        if strategy != "shared":  # there the first to wake takes each, and the one with room may take them all
            # The one that is full may greet its last client before it says so.
            until(lambda: made.counters.connections_by_slot() == [TAKES_NONE, 2 * ROOM - 1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_waits_while_nobody_has_room_is_served_once_there_is_some(strategy: str) -> None:
    with acceptors(strategy, 1) as made, contextlib.ExitStack() as stack:
        made.leave_room_for(0, ROOM, RESERVE)
        clients = [stack.enter_context(made.connect()) for _ in range(3 * ROOM)]
        assert made.greeted(clients[:ROOM]) == {b"0": ROOM}
        until(lambda: made.counters.connections_by_slot() == [TAKES_NONE])
        clients[ROOM].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[ROOM].recv(1)
        clients[ROOM].settimeout(20)
        for batch in (clients[ROOM : 2 * ROOM], clients[2 * ROOM :]):
            for client in clients[:ROOM]:
                client.close()
            assert made.greeted(batch) == {b"0": ROOM}
            clients = batch


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def come_and_go(made: Acceptors, how: int) -> None:
    client = made.connect()
    if how == 0:
        reset(client)
    elif how == 1:
        client.close()
    elif how == 2:
        client.shutdown(socket.SHUT_WR)
        while client.recv(10):
            pass
        client.close()
    else:
        client.recv(1)
        client.sendall(b"hello")
        reset(client) if how == 3 else client.close()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_every_kind_of_end_none_counts_as_open(strategy: str) -> None:
    with acceptors(strategy) as made:
        for number in range(200):
            come_and_go(made, number % 5)
        until(lambda: made.counters.connections_by_slot() == [0, 0])
        assert sum(made.counters.accepted_by_slot()) >= 120  # of those that were reset at once some never arrive
        if isinstance(made.listener, Handoff):
            passed = [channel.passed for channel in made.listener._channels.values()]
            until(lambda: made.counters.accepted_by_slot() == passed)


def test_a_connection_that_cannot_be_opened_or_is_cancelled_on_its_way_is_not_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = True

    def make(ended) -> Welcome:
        if failing:
            raise RuntimeError("no protocol today")
        return Welcome(b"0", ended)

    async def open_some(listening: socket.socket, connections: OpenConnections, pokes: Pokes) -> None:
        nonlocal failing
        acceptor = make_acceptor("exclusive", AcceptSource(listening.dup(), 0, pokes), connections, 100)
        await acceptor.start(make)
        with socket.create_connection(listening.getsockname()) as client:
            client.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
        assert connections.count == 0
        failing = False
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(socket.create_connection(listening.getsockname()))
                # The event loop ends before it has looked at them.
                acceptor._openings.add(listening.accept()[0])  # type: ignore[attr-defined]
            assert connections.count == 3
            acceptor.stop()

    with socket.create_server(("127.0.0.1", 0)) as listening, Counters(1) as counters, Pokes(1) as pokes:
        connections = OpenConnections(counters.claim(0))
        uvloop.run(open_some(listening, connections, pokes))
        assert connections.count == 0
    assert "no protocol today" in caplog.text


def test_descriptors_beyond_those_that_select_knows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip(f"the hard limit of descriptors is {hard}")

    async def talk(listening: socket.socket, counters: Counters, pokes: Pokes) -> None:
        failures: list[dict] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        high = socket.socket(fileno=fcntl.fcntl(listening.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500))
        connections = OpenConnections(counters.claim(0))
        acceptor = make_acceptor("least-loaded", AcceptSource(high, 0, pokes), connections, 100)
        await acceptor.start(lambda ended: Welcome(b"0", ended))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        pokes.poke(0)
        assert await reader.read(1) == b"0"
        writer.close()
        await writer.wait_closed()
        acceptor.stop()
        assert failures == []

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
        with socket.create_server(("127.0.0.1", 0)) as listening, Counters(1) as counters, Pokes(1) as pokes:
            uvloop.run(talk(listening, counters, pokes))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- the launcher's side of handoff ---------------------------------------------------------------------------------


@contextlib.contextmanager
def no_descriptor_free() -> Iterator[None]:
    """This process gets none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Receiver:
    """An API server under handoff, in the test's own process: it reads when it is told to."""

    def __init__(self, handoff: Handoff, counters: Counters, slot: int, stack: contextlib.ExitStack) -> None:
        self.channel = handoff.open_for(slot).socket
        own = stack.enter_context(Counters(counters.slots, os.dup(counters._descriptor)))
        self.connections = OpenConnections(own.claim(slot))
        self.connections.set_accepting(True)
        self.taken: list[socket.socket] = []
        self._stack = stack

    def read(self) -> int:
        """Returns their number."""
        found = 0
        with contextlib.suppress(BlockingIOError):
            while accepted := receive(self.channel):
                self.taken.append(self._stack.enter_context(accepted))
                self.connections.opened()
                found += 1
        return found


@pytest.fixture
def launcher() -> Iterator[tuple[Handoff, list[Receiver], contextlib.ExitStack]]:
    with contextlib.ExitStack() as stack:
        counters = stack.enter_context(Counters(2))
        handoff = stack.enter_context(Handoff(ServerConfig(port=0, accept="handoff"), counters))
        yield handoff, [Receiver(handoff, counters, slot, stack) for slot in range(2)], stack


def clients(handoff: Handoff, count: int, stack: contextlib.ExitStack) -> list[tuple[str, int]]:
    """Returns their addresses, in the order in which they connected."""
    address = handoff.bound.getsockname()
    made = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(count)]
    return [client.getsockname() for client in made]


def test_without_a_descriptor_the_launcher_lets_connections_wait(launcher, caplog: pytest.LogCaptureFixture) -> None:
    handoff, (one, other), stack = launcher
    clients(handoff, 6, stack)
    with no_descriptor_free(), caplog.at_level(logging.ERROR):
        for _ in range(5):
            handoff.on_readable()
            handoff.on_due()
            assert handoff.bound not in handoff.waitables
            assert handoff.due is not None
    assert caplog.text.count("no room for another connection") == 1
    until(lambda: handoff.bound in handoff.waitables)
    handoff.on_readable()
    assert (one.read(), other.read()) == (3, 3)


@pytest.mark.parametrize("end", ["on_ended", "retire"])
def test_what_one_has_not_read_goes_to_the_other_even_after_a_time_without_descriptors(launcher, end: str) -> None:
    handoff, (one, other), stack = launcher
    clients(handoff, 10, stack)
    handoff.on_readable()
    with no_descriptor_free():
        getattr(handoff, end)(0)
    until(lambda: handoff.on_due() or (other.read() == 0 and len(other.taken) == 10))
    with pytest.raises(BlockingIOError if end == "retire" else OSError):
        receive(one.channel)


def test_one_without_room_gives_back_and_gets_its_share_again_later(launcher) -> None:
    handoff, (one, other), stack = launcher
    clients(handoff, 10, stack)
    handoff.on_readable()
    one.connections.set_accepting(False)
    handoff.on_readable()  # it has poked the launcher
    assert (one.read(), other.read()) == (0, 10)
    one.connections.set_accepting(True)
    clients(handoff, 10, stack)
    handoff.on_readable()
    assert (one.read(), other.read()) == (10, 0)
    clients(handoff, 10, stack)
    handoff.on_readable()
    assert (one.read(), other.read()) == (5, 5)


def test_those_given_back_come_before_those_that_came_later(launcher) -> None:
    """The launcher holds the last ones, because the channel of the only API server that takes some is full."""
    handoff, (one, other), stack = launcher
    other.connections.set_accepting(False)
    came = []
    while handoff.bound in handoff.waitables:
        came += clients(handoff, 10, stack)
        handoff.on_readable()
    assert len(came) > 20
    one.connections.set_accepting(False)
    handoff.on_readable()
    other.connections.set_accepting(True)
    until(lambda: handoff.on_readable() or (other.read() == 0 and len(other.taken) == len(came)))
    assert [taken.getpeername() for taken in other.taken] == came


def test_a_newcomer_does_not_make_up_for_what_it_has_missed(launcher) -> None:
    """Connections that end at once, one after another: none is open when the next one comes."""
    handoff, receivers, stack = launcher

    def one_after_another(count: int) -> list[int]:
        found = [0, 0]
        for _ in range(count):
            clients(handoff, 1, stack)
            handoff.on_readable()
            for slot, receiver in enumerate(receivers):
                with contextlib.suppress(BlockingIOError):
                    accepted = receive(receiver.channel)
                    assert accepted
                    receiver.connections.opened()()
                    found[slot] += 1
                    accepted.close()
        return found

    assert one_after_another(20) == [10, 10]
    handoff.on_ended(0)
    receivers[0] = Receiver(handoff, handoff._counters, 0, stack)
    assert one_after_another(20) == [10, 10]


def test_one_that_could_not_take_a_single_connection_says_so() -> None:
    with no_descriptor_free(), pytest.raises(NoRoom, match="got a limit of"):
        demand_room(0)
