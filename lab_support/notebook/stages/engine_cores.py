"""`engine_cores`: processes that answer each request at once, by sending it back to whoever asked; `count_answers`.

They stand for real ones where a cell is about its front ends. ZeroMQ is imported in these processes only.

Taught in: 07a_what_crosses_between_them
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab_support.notebook.stages.fleet import Fleet, Member, fleet

_BINDS = """\
import sys, zmq
with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
    router.bind(sys.argv[1])
    while True:
        router.send_multipart(router.recv_multipart())
"""
_CONNECTS = """\
import sys, zmq
with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
    dealer.identity = sys.argv[2].encode()
    dealer.connect(sys.argv[1])
    dealer.send(b"READY")
    while True:
        dealer.send(dealer.recv())
"""


@dataclass(frozen=True, slots=True)
class EngineCores:
    """Running engine cores. addresses: by index, the one at which each meets its front ends."""

    addresses: tuple[str, ...]
    _members: tuple[Member, ...]
    _fleet: Fleet

    def front_ends(self, count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Fork `count` front ends that run `work(addresses, *arguments)`, and wait; returns their results in order."""
        return [each.result() for each in [self._fleet.start(work, self.addresses, *arguments) for _ in range(count)]]

    def stop(self, index: int) -> None:
        """Stop one: from now on it answers nobody, and requests to it are taken as before."""
        self._members[index].stop()

    def go_on(self, index: int) -> None:
        """Let it go on."""
        self._members[index].go_on()


def count_answers(dealer: Any, patience: float = 0.0) -> int:
    """Take all answers that have come to a ZeroMQ socket. Returns their number.

    patience: seconds for which it waits for each further one.
    """
    count = 0
    while dealer.poll(1000 * patience):
        dealer.recv()
        count += 1
    return count


@contextmanager
def engine_cores(count: int, *, connect: bool = False) -> Iterator[EngineCores]:
    """Engine cores that answer each request at once; at the end all are killed and waited for.

    Each binds a ROUTER at an address of its own, and requests may come before it has. With `connect`, each connects a
    DEALER to one front end, as in vLLM: all to the same address, with the identities b"0", b"1", …, and a first
    message b"READY".
    """
    with fleet() as processes:
        addresses = tuple(processes.address("front-end" if connect else f"engine-{index}") for index in range(count))
        program = _CONNECTS if connect else _BINDS
        members = tuple(
            processes.start(os.execv, sys.executable, [sys.executable, "-c", program, address, str(index)])
            for index, address in enumerate(addresses)
        )
        yield EngineCores(addresses, members, processes)
