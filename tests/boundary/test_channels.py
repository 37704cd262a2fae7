"""The ZeroMQ channels over real sockets: early messages arrive, and the end of one process stalls no other."""

import asyncio
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path

import msgspec
import pytest
import zmq

from lab_support.boundary.channels import COORDINATOR, ApiServerChannels, CoordinatorChannels, EngineCoreChannels
from lab_support.boundary.inheritance import ChannelSockets, endpoint
from lab_support.boundary.messages import (
    Abort,
    ApiServerJoined,
    ApiServerLeft,
    EngineLoad,
    EngineReady,
    EngineStats,
    Loads,
    Message,
    SequenceTokens,
    Tokens,
    encode,
)
from lab_support.boundary.vllm.layouts import loads_message

READY = EngineReady(0, 2048, 1024)


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[ChannelSockets]:
    with ChannelSockets(lambda name: str(tmp_path / name), 2, with_coordinator=True) as made:
        yield made


def tokens(number: int) -> Tokens:
    return Tokens(0, [SequenceTokens(number, [number])])


class Heard:
    """Collects messages; `until` waits for so many."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._more = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()

    async def until(self, count: int) -> list[Message]:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._more.clear()
                await self._more.wait()
        return self.messages


@contextlib.contextmanager
def api_server(sockets: ChannelSockets, index: int) -> Iterator[tuple[ApiServerChannels, Heard]]:
    with ApiServerChannels(sockets.inputs[index], sockets.outputs[index], sockets.addresses.loads) as channels:
        heard = Heard()
        channels.watch(asyncio.get_running_loop(), heard)
        yield channels, heard


def engine_core(sockets: ChannelSockets) -> EngineCoreChannels:
    return EngineCoreChannels(sockets.addresses, READY, lambda: 7)


def test_there_and_back_between_every_api_server_and_the_engine_core(sockets: ChannelSockets) -> None:
    async def talk() -> None:
        with (
            api_server(sockets, 0) as (first, first_heard),
            api_server(sockets, 1) as (second, second_heard),
            engine_core(sockets) as engine,
        ):
            assert await first_heard.until(1) == [READY]
            assert await second_heard.until(1) == [READY]
            first.send(0, Abort(0, [1]))
            assert engine.inbox.get(timeout=10) == (Abort(0, [1]), 7)
            second.send(0, Abort(1, [2]))
            assert engine.inbox.get(timeout=10) == (Abort(1, [2]), 7)
            engine.outbox.put([(1, tokens(2)), (0, tokens(1))])
            assert (await first_heard.until(2))[1] == tokens(1)
            assert (await second_heard.until(2))[1] == tokens(2)

    asyncio.run(talk())


def test_what_is_sent_before_anybody_listens_arrives(sockets: ChannelSockets) -> None:
    async def talk() -> None:
        with engine_core(sockets) as engine:
            engine.outbox.put([(0, tokens(number)) for number in range(1000)])
            with api_server(sockets, 0) as (_, heard):
                got = await heard.until(1001)
        assert [message for message in got if message != READY] == [tokens(number) for number in range(1000)]

    asyncio.run(talk())


def test_names_may_go_once_everyone_is_connected(sockets: ChannelSockets, tmp_path: Path) -> None:
    async def talk() -> None:
        with api_server(sockets, 0) as (channels, heard), engine_core(sockets) as engine:
            await heard.until(1)
            for name in os.listdir(tmp_path):
                (tmp_path / name).unlink()
            channels.send(0, Abort(0, [1]))
            assert engine.inbox.get(timeout=10)[0] == Abort(0, [1])
            engine.outbox.put([(0, tokens(1))])
            assert (await heard.until(2))[1] == tokens(1)

    asyncio.run(talk())


def test_an_api_server_that_comes_later_is_joined_and_one_that_left_is_forgotten(
    sockets: ChannelSockets, tmp_path: Path
) -> None:
    async def talk() -> None:
        ours, theirs = multiprocessing.Pipe()
        with (
            ours,
            theirs,
            api_server(sockets, 0) as (_, heard),
            EngineCoreChannels(sockets.addresses, READY, lambda: 7, theirs) as engine,
        ):
            await heard.until(1)
            ours.send_bytes(encode(ApiServerLeft(0)))
            assert engine.inbox.get(timeout=10)[0] == ApiServerLeft(0)
            further = ChannelSockets(lambda name: str(tmp_path / f"further-{name}"), 1, with_coordinator=False)
            with further, api_server(further, 0) as (channels, further_heard):
                joined = ApiServerJoined(0, further.addresses.inputs[0], further.addresses.outputs[0])
                ours.send_bytes(encode(joined))
                assert engine.inbox.get(timeout=10)[0] == joined
                assert await further_heard.until(1) == [READY]
                channels.send(0, Abort(0, [1]))
                assert engine.inbox.get(timeout=10)[0] == Abort(0, [1])
                engine.outbox.put([(0, tokens(1))])
                assert (await further_heard.until(2))[1] == tokens(1)
            assert heard.messages == [READY]

    asyncio.run(talk())


def test_an_api_server_that_left_with_a_message_unread_takes_nobody_along(
    sockets: ChannelSockets, tmp_path: Path
) -> None:
    """The message, and the launcher's word that it has left, are found in one look of the input thread."""
    paused, held, go_on = threading.Event(), threading.Event(), threading.Event()

    def steps_ended() -> int:
        if paused.is_set():
            held.set()
            assert go_on.wait(10)
        return 7

    async def talk() -> None:
        ours, theirs = multiprocessing.Pipe()
        further = ChannelSockets(lambda name: str(tmp_path / f"further-{name}"), 1, with_coordinator=False)
        with (
            ours,
            theirs,
            api_server(sockets, 0) as (first, first_heard),
            EngineCoreChannels(sockets.addresses, READY, steps_ended, theirs) as engine,
            further,
            api_server(further, 0) as (later, later_heard),
        ):
            await first_heard.until(1)
            joined = ApiServerJoined(2, further.addresses.inputs[0], further.addresses.outputs[0])
            ours.send_bytes(encode(joined))
            assert engine.inbox.get(timeout=10)[0] == joined
            await later_heard.until(1)
            paused.set()
            first.send(0, Abort(0, [1]))
            assert held.wait(10)
            for number in range(200):
                later.send(0, Abort(2, [number]))
            ours.send_bytes(encode(ApiServerLeft(2)))
            ours.send_bytes(encode(ApiServerLeft(3)))  # that one never joined
            paused.clear()
            go_on.set()
            first.send(0, Abort(0, [2]))
            heard: list[object] = []
            while Abort(0, [2]) not in heard or ApiServerLeft(3) not in heard:
                heard.append(engine.inbox.get(timeout=10)[0])
            own = [message for message in heard if isinstance(message, Abort) and message.client_index == 2]
            assert own == [Abort(2, [number]) for number in range(len(own))]
            first.send(0, Abort(0, [3]))
            assert engine.inbox.get(timeout=10)[0] == Abort(0, [3])

    asyncio.run(talk())


def test_a_dead_api_server_does_not_stall_the_engine_core(sockets: ChannelSockets) -> None:
    async def talk() -> None:
        with api_server(sockets, 1) as (_, heard), engine_core(sockets) as engine:
            with api_server(sockets, 0) as (_, dying):
                await dying.until(1)
            await heard.until(1)
            for number in range(100):
                engine.outbox.put([(0, tokens(number)), (COORDINATOR, tokens(number)), (1, tokens(number))])
            assert len(await heard.until(101)) == 101

    asyncio.run(talk())


def test_an_error_over_one_message_does_not_stall_the_others(sockets: ChannelSockets) -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        heard = Heard()

        def stumble(message: Message) -> None:
            heard(message)
            if message == tokens(0):
                raise ZeroDivisionError

        with engine_core(sockets) as engine:
            engine.outbox.put([(0, tokens(number)) for number in range(100)])
            with ApiServerChannels(sockets.inputs[0], sockets.outputs[0], None) as channels:
                loop.call_soon(channels.watch, loop, stumble)
                assert len(await heard.until(101)) == 101
        assert [type(error) for error in errors] == [ZeroDivisionError]

    asyncio.run(talk())


def test_the_coordinator_hears_engine_cores_and_tells_api_servers(sockets: ChannelSockets) -> None:
    async def talk() -> None:
        assert sockets.stats and sockets.loads
        stats = EngineStats(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, {})
        loads = Loads([EngineLoad(2, 1, 0.25)])
        ours, theirs = connection.Pipe()
        with (
            ours,
            theirs,
            CoordinatorChannels(sockets.stats, sockets.loads, theirs) as coordinator,
            api_server(sockets, 0) as (_, heard),
            engine_core(sockets) as engine,
        ):
            engine.outbox.put([(COORDINATOR, stats)])
            assert list(coordinator.receive(10.0)) == [stats]
            await heard.until(1)
            while loads not in heard.messages:  # a subscription takes a moment; until then nothing is sent
                coordinator.publish(loads)
                await asyncio.sleep(0.001)

    asyncio.run(talk())


def test_loads_may_be_packed_for_another_reader(sockets: ChannelSockets) -> None:
    assert sockets.stats and sockets.loads
    address = endpoint(sockets.loads)
    ours, theirs = connection.Pipe()
    packed = CoordinatorChannels(sockets.stats, sockets.loads, theirs, loads_message)
    with ours, theirs, zmq.Context() as context, packed as coordinator:
        reader = context.socket(zmq.SUB)
        reader.setsockopt(zmq.SUBSCRIBE, b"")
        reader.connect(address)
        while not reader.poll(1):
            coordinator.publish(Loads([EngineLoad(2, 1, 0.25), EngineLoad()]))
        assert msgspec.msgpack.decode(reader.recv()) == [[[2, 1, 0.25], [0, 0, 0.0]], 0, False]
        reader.close(0)
