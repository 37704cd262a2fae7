"""The other end of vLLM's handshake: our engine core joins a `vllm serve` as one of its data-parallel ranks.

    vLLM's launcher     ROUTER <- DEALER   here   HELLO, and READY once the model is loaded
    vLLM's API servers  ROUTER <- DEALER   here   as wire.py says
    vLLM's API servers  PULL   <- PUSH     here
    vLLM's coordinator  PULL   <- PUSH     here   loads, as `SchedulerStats`
    vLLM's coordinator  XPUB   -> XSUB     here   READY; START_DP_WAVE, which is nothing to ranks without a lockstep

All of it is TCP on loopback: another address is refused, because nothing here proves who asks. All of it is msgpack
with a type for each message; a pickle is none, and is refused. Runs in the engine core (processes/vllm_rank.py).
"""

import logging
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal, Self

import msgspec
import zmq

from lab_support.boundary.channels import COORDINATOR
from lab_support.boundary.messages import Addresses, ApiServerJoined, EngineStats, Message, ToEngineCore
from lab_support.boundary.vllm.layouts import pack, scheduler_stats
from lab_support.boundary.vllm.outputs import ENGINE_CORE_DEAD
from lab_support.boundary.vllm.wire import Answer, VllmChannels

log = logging.getLogger("lab.engine")

LOCAL = ("tcp://127.0.0.1:", "ipc://")
LAST_WORDS_MS = 2000  # how long READY may take to be sent


class NotJoined(Exception):
    """vLLM's launcher does not answer, or not as it should. The words say what was got."""


class ToldAddresses(msgspec.Struct):
    """vLLM's `EngineZmqAddresses`. coordinator_input, coordinator_output: of the coordinator, as the rank sees it."""

    inputs: list[str]
    outputs: list[str]
    coordinator_input: str | None = None
    coordinator_output: str | None = None


class Metadata(msgspec.Struct):
    """vLLM's `EngineHandshakeMetadata`. parallel_config: settings of ranks in lockstep; {} for others."""

    addresses: ToldAddresses
    parallel_config: dict[str, Any] = {}


class VllmLauncher:
    """vLLM's launcher, as a rank sees it. A context manager."""

    def __init__(self, port: int, rank: int) -> None:
        self._at = f"tcp://127.0.0.1:{port}"
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.IDENTITY, rank.to_bytes(2, "little"))
        self._dealer.setsockopt(zmq.LINGER, LAST_WORDS_MS)
        self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._dealer.connect(self._at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=LAST_WORDS_MS)

    def hello(self, timeout: float) -> ToldAddresses:
        """Say HELLO, and wait up to `timeout` seconds for the addresses. Raises `NotJoined`."""
        self._say("HELLO")
        if not self._answered(time.monotonic() + timeout):
            why = "is that the --data-parallel-rpc-port of a vLLM that has a place for this rank?"
            raise NotJoined(f"nobody answered at {self._at} within {timeout:g} s; {why}")
        try:
            told = msgspec.msgpack.decode(self._dealer.recv(), type=Metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NotJoined(f"got from {self._at} what no vLLM launcher sends: {error}") from error
        if told.parallel_config:
            raise NotJoined("vLLM serves a model whose ranks compute in lockstep, which this engine core can't")
        found = told.addresses
        named = [*found.inputs, *found.outputs, found.coordinator_input, found.coordinator_output]
        if foreign := [each for each in named if each and not each.startswith(LOCAL)]:
            why = "give vLLM --data-parallel-address 127.0.0.1"
            raise NotJoined(f"got the address {foreign[0]}, expected one of this machine; {why}")
        return found

    def _answered(self, deadline: float) -> bool:
        """Wait for an answer. Whoever has taken HELLO and left has lost it: vLLM may have been started again, or
        somebody else had the port before. So it is said again, but never twice to the same one, which vLLM refuses."""
        poller, greeted = zmq.Poller(), False
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(int(left * 1000) + 1))
            if self._dealer in ready:
                return True
            if self._monitor in ready:
                (event,) = struct.unpack_from("=H", self._monitor.recv_multipart()[0])  # zmq_socket_monitor(3)
                if event == zmq.EVENT_DISCONNECTED and greeted:
                    self._say("HELLO")
                greeted = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return False

    def ready(self) -> None:
        self._say("READY")

    def _say(self, status: Literal["HELLO", "READY"]) -> None:
        self._dealer.send(pack({"status": status, "local": False, "headless": True}))


class RankChannels(VllmChannels):
    """As `VllmChannels`, to the API servers and the coordinator of a `vllm serve`.

    admitted: set once the coordinator has let this rank in. left: whether an API server's connection has ended; then
    vLLM has ended, too, and the loop is stopped.
    """

    names_ended = True

    def __init__(self, told: ToldAddresses, *given: Any, **more: Any) -> None:
        super().__init__(Addresses(told.inputs, told.outputs, told.coordinator_output), *given, **more)
        self._coordinator = told.coordinator_input
        self._subscriber: zmq.Socket | None = None
        self._monitors: list[zmq.Socket] = []
        self.left = False
        self.admitted = threading.Event()
        if not self._coordinator:
            self.admitted.set()

    def say_dead(self) -> None:
        """vLLM does not see a remote rank's end by itself, and would wait for its tokens for ever."""
        clients = range(len(self._addresses.inputs))
        self.outbox.put([(client_index, Answer(ENGINE_CORE_DEAD)) for client_index in clients])

    def _receive(self) -> None:
        if self._coordinator:
            self._subscriber = self._context.socket(zmq.XSUB)
            self._subscriber.connect(self._coordinator)
            self._subscriber.send(b"\x01")  # subscribes to everything
            self._poller.register(self._subscriber, zmq.POLLIN)
        super()._receive()
        for each in (self._subscriber, *self._monitors):
            if each:
                each.close(linger=0)

    def _join(self, joined: ApiServerJoined) -> None:
        super()._join(joined)
        monitor = self._dealers[joined.client_index].get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._monitors.append(monitor)
        self._poller.register(monitor, zmq.POLLIN)

    def _messages(self, dealer: zmq.Socket) -> Iterator[ToEngineCore]:
        if dealer is self._subscriber:
            if dealer.recv() == b"READY":
                self.admitted.set()
        elif dealer in self._monitors:
            self._poller.unregister(dealer)
            log.warning("vLLM's API server %d has gone, and so this rank ends", self._monitors.index(dealer))
            self.left = True
            self.admitted.set()
            self.inbox.put((None, self._steps_ended()))
        else:
            yield from super()._messages(dealer)

    def _frame(self, destination: int, message: Message) -> bytes | None:
        if destination == COORDINATOR and isinstance(message, EngineStats):
            return pack([message.engine_index, [], scheduler_stats(message, 0, 0), time.monotonic()])
        return super()._frame(destination, message)
