"""`overfill` and `offer_in_turn`: senders that go on although a reader is stopped, and what becomes of their messages.

The ZeroMQ sockets are the cell's, which chooses their kind and their options; nothing of ZeroMQ is imported here.

Taught in: 07a_what_crosses_between_them
"""

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab_support.instruments import proc
from lab_support.notebook.stages.engine_cores import EngineCores
from lab_support.notebook.stages.fleet import Member, fleet

COUNT = 20_000
OFFERS = 2000
SIZE = 1000  # bytes of each message
_PATIENCE = 1.0  # seconds, after which a send that waits gives up, because otherwise it would wait for ever


@contextmanager
def started(reader: Callable[[str], int]) -> Iterator[tuple[Member, str]]:
    """A process that runs `reader(address)`, and that address, to which the cell binds its sender afterwards."""
    with fleet() as processes:
        address = processes.address("sender")
        yield processes.start(reader, address), address


def overfill(sender: Any, reader: Member, flags: int = 0) -> dict[str, Any]:
    """Send up to `COUNT` messages of `SIZE` bytes while `reader` is stopped, each by `send_multipart(…, flags)`.

    sender: a bound ZeroMQ socket. reader: it connects, sends anything, receives one message, stops itself, then
    receives up to b"end", and returns how many came before that. Returns fields for `emit`: the messages sent, those
    that arrived, whether one was not taken, whether that one waited first, and the growth of this process's memory
    in MB.
    """
    *to, _ = sender.recv_multipart()  # at a ROUTER, the reader's identity comes first
    sender.send_multipart([*to, b"welcome"])
    reader.await_stop()
    before = _private_mb()
    sender.sndtimeo, sender.linger = int(1000 * _PATIENCE), 0
    sent, seconds = _send_all(sender, [*to, bytes(SIZE)], flags)
    grown = _private_mb() - before
    reader.go_on()
    return {
        "sent": sent,
        "arrived": _arrived(sender, to, reader),
        "stopped": sent < COUNT,
        "waited": seconds > _PATIENCE / 2,
        "grown_mb": round(grown, 1),
    }


def _send_all(sender: Any, message: list[bytes], flags: int) -> tuple[int, float]:
    """The messages sent until one was not taken, and the seconds of that last call."""
    for sent in range(COUNT):
        began = time.monotonic()
        if not _taken(sender, message, flags):
            return sent, time.monotonic() - began
    return COUNT, 0.0


def _taken(sender: Any, message: list[bytes], flags: int = 0) -> bool:
    try:
        sender.send_multipart(message, flags)
    except Exception as error:  # a zmq.ZMQError, whose name is not known here
        if getattr(error, "errno", 0) not in (errno.EAGAIN, errno.EHOSTUNREACH):
            raise
        return False
    return True


def _arrived(sender: Any, to: list[bytes], reader: Member) -> int:
    """Send b"end" until the reader has had it, because the first ones may be dropped like the messages before."""
    sender.sndtimeo = 20
    while not reader.has_result(0.02):
        _taken(sender, [*to, b"end"])
    return int(reader.result())


def _private_mb() -> float:
    memory = proc.read_memory(os.getpid())
    return memory.uss / 1e6 if memory else 0.0


def offer_in_turn(router: Any, cores: EngineCores, offer: Callable[[Any, list[bytes]], str]) -> dict[str, Any]:
    """Offer `OFFERS` requests in turn to each of three engine cores: one that works, one that is stopped, and none.

    router: a bound ROUTER. cores: two that connect to it, so that nobody has the identity b"2". offer: sends a message,
    and returns "taken", "full", or another word for why it is not taken. Core 0 answers each request before the next
    is offered; if one is lost, nothing more is offered.

    Returns fields for `emit`: how many requests core 0 `served`; of those for core 1, how many were `taken`, `full`,
    and `answered` once it goes on; and the words for those to core `two`, each with its number.
    """
    router.linger = 0  # an error in `offer` must end the cell, and closing must not wait for the one that is stopped
    for _ in cores.addresses:
        router.recv_multipart()  # READY
    cores.stop(1)
    served, said = 0, [Counter[str]() for _ in range(3)]
    for _ in range(OFFERS):
        for core, told in enumerate(said):
            told[offer(router, [b"%d" % core, bytes(SIZE)])] += 1
        served += _answers(router, said[0]["taken"] - served)
        if served < said[0]["taken"]:
            break
    cores.go_on(1)
    taken, full = said[1]["taken"], said[1]["full"]
    return {"served": served, "taken": taken, "full": full, "answered": _answers(router, taken), "two": dict(said[2])}


def _answers(router: Any, wanted: int) -> int:
    """The answers that come, up to `wanted`; a lost one ends it after two seconds in which none comes."""
    count = 0
    while count < wanted and router.poll(2000):
        router.recv_multipart()
        count += 1
    return count
