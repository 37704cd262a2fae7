"""The ZeroMQ sockets that carry requests and tokens: who binds, who connects, how they close.

    API server i   ROUTER  <- DEALER   engine core j      Generate, Abort   (and EngineReady, the other way)
    API server i   PULL    <- PUSH     engine core j      Tokens, EngineStats
    coordinator    PULL    <- PUSH     engine core j      EngineStats
    coordinator    PUB     -> SUB      API server i       Loads

Every engine core is connected to every API server. API servers and the coordinator own the binding end, but the
*launcher* binds: it makes plain listening Unix sockets, hands them over as descriptors, and libzmq adopts them
(ZMQ_USE_FD). So an address is valid from the moment it is known, and a process that connects early waits in the
kernel's queue. Queues are unbounded (high-water mark 0), as in vLLM; the API servers' admission limit bounds them.
"""

import asyncio
import errno
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Self

import zmq
from zmq.backend import zmq_poll

from lab_support.boundary.inheritance import endpoint
from lab_support.boundary.messages import (
    Addresses,
    ApiServerJoined,
    ApiServerLeft,
    EngineCoreGone,
    EngineReady,
    EngineStats,
    FromLauncher,
    Loads,
    Message,
    Ping,
    ToApiServer,
    ToEngineCore,
    decoder,
    encode,
)

Asked = ToEngineCore | ApiServerJoined | ApiServerLeft | Ping
# A message for an engine core, with the step count at its arrival. None in place of a message: stop.
Inbox = queue.SimpleQueue[tuple[Asked | None, int]]
# A step's messages, each with its destination; or a destination's new socket (None: it has left). None: stop.
Outbox = queue.SimpleQueue[Sequence[tuple[int, Message]] | tuple[int, zmq.Socket | None] | None]

COORDINATOR = -1  # a destination of an engine core's messages; the others are the indexes of the API servers
_POLLIN = int(zmq.POLLIN)
_LINGER_MS = 1000  # how long closing waits for messages that are still on their way


class ApiServerChannels:
    """The ends in an API server, driven by its event loop: no thread of ours, no task.

    A context manager; leave it inside the loop.
    """

    def __init__(self, inputs: socket.socket, outputs: socket.socket, loads: str | None) -> None:
        self._context = zmq.Context()
        self._router = _adopt(self._context, zmq.ROUTER, inputs)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an unknown engine core is an error, not silence
        self._pull = _adopt(self._context, zmq.PULL, outputs)
        self._receiving = [self._router, self._pull]
        if loads:
            subscriber = _connect(self._context, zmq.SUB, loads)
            subscriber.setsockopt(zmq.SUBSCRIBE, b"")
            self._receiving.append(subscriber)
        self._watched: list[int] = []
        self._decode = decoder(ToApiServer | Loads).decode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Remove the readers first: libuv aborts the process if a descriptor that it watches is closed.
        for descriptor in self._watched:
            asyncio.get_running_loop().remove_reader(descriptor)
        self._context.destroy(linger=_LINGER_MS)

    def watch(self, loop: asyncio.AbstractEventLoop, on_message: Callable[[Message], None]) -> None:
        """Call `on_message` in `loop` for every message that arrives from now on."""

        def drain(receiving: zmq.Socket) -> None:
            # Read all there is: ZeroMQ's descriptor becomes readable when its state *changes*, not while there is more.
            # So after an error the rest has to be read by a further call.
            if self._context.closed:
                return
            drained = False
            try:
                for message in self._messages(receiving):
                    on_message(message)
                drained = True
            finally:
                if not drained:
                    loop.call_soon(drain, receiving)

        for receiving in self._receiving:
            descriptor = int(receiving.getsockopt(zmq.FD))
            self._watched.append(descriptor)
            loop.add_reader(descriptor, drain, receiving)
            loop.call_soon(drain, receiving)  # for messages that arrived before the reader was added

    def send(self, engine_index: int, message: ToEngineCore) -> None:
        """To one engine core that said it is ready. Never waits; raises `EngineCoreGone` if it has ended.

        Sending may swallow the change of state that a reader of the same socket waits for. This is harmless here,
        because all that engine cores send on this socket (EngineReady) comes before anything is sent to them on it.
        """
        try:
            self._router.send_multipart([_identity(engine_index), *self._frames(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            raise EngineCoreGone(f"engine-{engine_index} has ended") from error

    def _frames(self, message: ToEngineCore) -> list[bytes]:
        return [encode(message)]

    def _messages(self, receiving: zmq.Socket) -> Iterator[Message]:
        """Those that are there now."""
        return map(self._decode, _waiting(receiving))


class EngineCoreChannels:
    """The ends in an engine core, on two threads of their own, so that its loop never waits for a socket.

    inbox: (message, `steps_ended()` at its arrival), put by the input thread.
    outbox: lists of (index of an API server or COORDINATOR, message), put by the loop, one list a step.
    control: from the launcher; tells the input thread which API servers join and leave.
    vital: wraps each thread's work, so that its failure does not go unnoticed.
    on_arrival: called in the input thread for each message of an API server, before it is in the inbox.
    A context manager; leaving it sends what is in the outbox, then closes.
    """

    def __init__(
        self,
        addresses: Addresses,
        ready: EngineReady,
        steps_ended: Callable[[], int],
        control: Connection | None = None,
        vital: Callable[[Callable[[], None]], Callable[[], None]] = lambda work: work,
        on_arrival: Callable[[ToEngineCore], None] | None = None,
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        self.outbox: Outbox = queue.SimpleQueue()
        self._addresses = addresses
        self._ready = ready
        self._steps_ended = steps_ended
        self._on_arrival = on_arrival
        self._control = control
        self._decode = decoder(ToEngineCore).decode
        self._context = zmq.Context()
        self._dealers: dict[int, zmq.Socket] = {}
        self._poller = zmq.Poller()
        self._threads = [
            threading.Thread(target=vital(self._receive), name="input", daemon=True),
            threading.Thread(target=vital(self._send), name="output", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.outbox.put(None)
        self._threads[1].join()
        self._context.term()  # wakes the input thread, and returns once it has closed its sockets

    def _receive(self) -> None:
        """The input thread."""
        for client_index, (address, back) in enumerate(
            zip(self._addresses.inputs, self._addresses.outputs, strict=True)
        ):
            self._join(ApiServerJoined(client_index, address, back))
        control = self._control.fileno() if self._control else None
        if control is not None:
            self._poller.register(control, zmq.POLLIN)
        try:
            while True:
                ready = [each for each, _ in self._poller.poll()]
                # Sockets first: a message of the launcher may close one, and its owner's last messages came earlier.
                for dealer in ready:
                    if dealer != control:
                        for message in self._messages(dealer):
                            self._arrived(message)
                if control in ready:
                    self._on_control()
        except zmq.ContextTerminated:
            for dealer in self._dealers.values():
                dealer.close(linger=0)

    def _messages(self, dealer: zmq.Socket) -> Iterator[ToEngineCore]:
        """Those of one API server that are there now. In the input thread."""
        return map(self._decode, _waiting(dealer))

    def _arrived(self, message: ToEngineCore) -> None:
        if self._on_arrival:
            self._on_arrival(message)
        self.inbox.put((message, self._steps_ended()))

    def _hello(self, client_index: int) -> bytes:
        """The first message to an API server."""
        return encode(self._ready)

    def _frame(self, destination: int, message: Message) -> bytes | None:
        """In the output thread. None: there is nothing to send."""
        return encode(message)

    def _on_control(self) -> None:
        assert self._control
        try:
            message = decoder(FromLauncher).decode(self._control.recv_bytes())
        except (EOFError, ConnectionResetError):  # the launcher has ended: the lifeline ends this process
            self._poller.unregister(self._control.fileno())
            return
        match message:
            case ApiServerJoined():
                self._join(message)
                self.inbox.put((message, self._steps_ended()))
            case ApiServerLeft(client_index):
                self.outbox.put((client_index, None))
                self._part(client_index)
                self.inbox.put((message, self._steps_ended()))
            case Ping():  # for the loop: this thread alone would answer for a loop that hangs
                self.inbox.put((message, self._steps_ended()))

    def _part(self, client_index: int) -> None:
        """Stop listening to an API server. It may be unknown here, if it ended before it was announced."""
        if dealer := self._dealers.pop(client_index, None):
            self._poller.unregister(dealer)
            dealer.close(linger=0)

    def _join(self, joined: ApiServerJoined) -> None:
        """Connect to an API server. The first message makes this engine core known to the ROUTER there.

        The PUSH socket, the way back, is connected first. One ZeroMQ thread connects both in this order, so once the
        message has arrived the way back exists too, and the names of both sockets can be removed.
        """
        self._part(joined.client_index)
        push = _connect(self._context, zmq.PUSH, joined.output)
        dealer = _connect(self._context, zmq.DEALER, joined.input, _identity(self._ready.engine_index))
        self.outbox.put((joined.client_index, push))  # moves it to the output thread
        self._dealers[joined.client_index] = dealer
        dealer.send(self._hello(joined.client_index))
        self._poller.register(dealer, zmq.POLLIN)

    def _send(self) -> None:
        """The output thread."""
        pushes: dict[int, zmq.Socket] = {}
        if self._addresses.stats:
            pushes[COORDINATOR] = _connect(self._context, zmq.PUSH, self._addresses.stats)
        for item in iter(self.outbox.get, None):
            if isinstance(item, tuple):
                destination, way = item
                if destination in pushes:
                    pushes.pop(destination).close(linger=0)
                if way:
                    pushes[destination] = way
                continue
            for destination, message in item:
                frame = self._frame(destination, message)
                with suppress(zmq.Again, KeyError):  # the receiver is gone, or there is no coordinator
                    if frame is not None:
                        pushes[destination].send(frame, zmq.NOBLOCK)
        for push in pushes.values():
            push.close(linger=_LINGER_MS)


class CoordinatorChannels:
    """The ends in the coordinator. pack: makes bytes of loads, for those who read them. A context manager."""

    def __init__(
        self,
        stats: socket.socket,
        loads: socket.socket,
        control: Connection,
        pack: Callable[[Loads], bytes] = encode,
    ) -> None:
        """control: the launcher's messages are read by the owner; here it only ends a wait."""
        self._pack = pack
        self._context = zmq.Context()
        self._pull = _adopt(self._context, zmq.PULL, stats)
        self._publish = _adopt(self._context, zmq.PUB, loads)
        self._poller = zmq.Poller()
        self._poller.register(self._pull, zmq.POLLIN)
        self._poller.register(control.fileno(), zmq.POLLIN)
        self._decode = decoder(EngineStats).decode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def receive(self, timeout: float) -> Iterator[EngineStats]:
        """The messages that arrive within `timeout` seconds; waits for the first only, or for the launcher's."""
        if self._pull in dict(self._poller.poll(int(timeout * 1000))):
            yield from map(self._decode, _waiting(self._pull))

    def publish(self, loads: Loads) -> None:
        self._publish.send(self._pack(loads))


def _adopt(context: zmq.Context, kind: int, listener: socket.socket) -> zmq.Socket:
    """A bound ZeroMQ socket on a listening socket that the launcher made. libzmq owns the descriptor from then on.

    With USE_FD set, libzmq neither binds nor unlinks the path. The option stays set, so a socket is bound only once.
    """
    adopted = _socket(context, kind)
    address = endpoint(listener)
    adopted.setsockopt(zmq.USE_FD, listener.detach())
    adopted.bind(address)
    return adopted


def _connect(context: zmq.Context, kind: int, address: str, identity: bytes | None = None) -> zmq.Socket:
    connected = _socket(context, kind)
    if identity:
        connected.setsockopt(zmq.IDENTITY, identity)
    # Never reconnect: names are removed once everyone is connected, and a replacement of a dead process has new ones.
    connected.setsockopt(zmq.RECONNECT_IVL, -1)
    # And never give up: libzmq ends a connection that nobody has greeted for 30 s, but the process that is to own the
    # listening socket may take longer to start, as vLLM's API servers do.
    connected.setsockopt(zmq.HANDSHAKE_IVL, 0)
    connected.connect(address)
    return connected


def _socket(context: zmq.Context, kind: int) -> zmq.Socket:
    made = context.socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    if kind != zmq.SUB:
        made.setsockopt(zmq.SNDHWM, 0)
    made.setsockopt(zmq.RCVHWM, 0)
    return made


def _waiting(receiving: zmq.Socket) -> Iterator[bytes]:
    """The last frame of each message that is there now."""
    # Only on a ROUTER does a message have another frame: the identity of the engine core that sent it.
    receive = receiving.recv if receiving.type != zmq.ROUTER else lambda flags: receiving.recv_multipart(flags)[-1]
    try:
        yield receive(zmq.NOBLOCK)
        # Checked only from here on: a check costs less than the error, and is wasted before the first message. By
        # `zmq_poll`, because `getsockopt(EVENTS)` goes through Python's enums, which at a wake-up no cache holds.
        polled = [(receiving, _POLLIN)]
        while zmq_poll(polled, 0):
            yield receive(zmq.NOBLOCK)
    except zmq.Again:
        return


def _identity(engine_index: int) -> bytes:
    """An engine core's identity at a ROUTER: two bytes, little-endian, as in vLLM."""
    return engine_index.to_bytes(2, "little")
