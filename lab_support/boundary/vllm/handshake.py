"""The handshake by which vLLM's own engine core finds whom it serves: HELLO, the addresses, READY.

    engine core   DEALER  -> ROUTER   here   {"status": "HELLO", "local": false, "headless": true}
    engine core   DEALER  <- ROUTER   here   {"addresses": {"inputs": […], "outputs": […]}, "parallel_config": {}}
    engine core   DEALER  -> ROUTER   here   {"status": "READY", …}, once its model is loaded

vLLM's launcher speaks so with engine cores of other machines (`--headless`; vllm/v1/engine/core.py,
`_perform_handshake`), so its socket is TCP: here on loopback alone, at a port that the kernel chooses. Any user of this
machine can connect to it. A message that is no such handshake, a pickle for example, is named in the log and dropped;
the addresses are Unix sockets in a folder that only the server's own user can enter.

Runs in the process that stands for the engine core (processes/vllm_engine_core.py).
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal, Self

import msgspec
import zmq

from lab_support.boundary.messages import Addresses

log = logging.getLogger("lab.engine")

ENGINE = b"\x00\x00"
"""The identity of the only engine core, its rank as two bytes."""
MOST_BYTES = 4096
"""A handshake's message has fewer; ZeroMQ disconnects whoever sends more."""


class FromEngineCore(msgspec.Struct):
    """What vLLM's engine core says. Further fields are not read."""

    status: Literal["HELLO", "READY"]
    local: bool = False
    headless: bool = False


class Handshake:
    """The ROUTER. A context manager. port: on 127.0.0.1."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._read = msgspec.msgpack.Decoder(FromEngineCore).decode
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind("tcp://127.0.0.1:*")
        self.port = int(self._router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def said(self, others: Sequence[int]) -> Literal["HELLO", "READY"] | None:
        """Wait for the engine core's next word, and answer HELLO. None: a descriptor of `others` is readable."""
        poller = zmq.Poller()
        for each in (self._router, *others):
            poller.register(each, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if any(other in ready for other in others):
                return None
            if status := self._answered(self._router.recv_multipart()):
                return status

    def _answered(self, frames: list[bytes]) -> Literal["HELLO", "READY"] | None:
        try:
            if len(frames) != 2 or frames[0] != ENGINE:
                raise ValueError(f"{len(frames)} frames of {frames[0][:8]!r}")
            said = self._read(frames[1])
            if said.local or not said.headless:
                raise ValueError("an engine core that is not headless")
        except (ValueError, RecursionError, msgspec.MsgspecError) as why:
            log.warning("port %d: got what is no handshake of vLLM's engine core, and dropped it: %s", self.port, why)
            return None
        if said.status == "HELLO":
            self._router.send_multipart([ENGINE, msgspec.msgpack.encode(self._metadata())])
        return said.status

    def _metadata(self) -> dict[str, Any]:
        """vLLM's `EngineHandshakeMetadata`."""
        addresses = {"inputs": self._addresses.inputs, "outputs": self._addresses.outputs}
        return {"addresses": addresses, "parallel_config": {}}
