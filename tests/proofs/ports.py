"""The race for a free port is real, and a socket that is passed on ends it: `python -m tests.proofs.ports`.

16 launchers at once, in a range of 200 ports. The children are forked, or programs of their own, which have gone
through execve as in life.
"""

import errno
import os
import socket
import subprocess
import sys
from typing import Any

import zmq

from lab_support.experiments.ports.port_range import PortRange, address_of
from lab_support.experiments.ports.race import race
from tests.proofs import Row

LAUNCHERS, STARTS, PASSED = 16, 200, 1000
PROBES, TRIALS = 32, 3000
RANGE = PortRange.of(200)

_PROGRAM = """
import errno, sys, zmq
address, number = sys.argv[1], int(sys.argv[2])
receiver = zmq.Context().socket(zmq.PULL)
if number >= 0:
    receiver.setsockopt(zmq.USE_FD, number)
try:
    receiver.bind(address)
except zmq.ZMQError as error:
    print(error.errno, flush=True)
else:
    print(0, flush=True)
sys.stdin.read()
"""


# ---- launchers and children ------------------------------------------------------------------------------------------


def pass_on() -> tuple[str, socket.socket]:
    """In a launcher: a socket that listens already, for its child."""
    sock = RANGE.bind()
    sock.listen()
    return address_of(sock), sock


def bind(address: str, sock: socket.socket | None = None) -> zmq.Socket:
    """In a forked child."""
    receiver = zmq.Context().socket(zmq.PULL)
    if sock:
        receiver.setsockopt(zmq.USE_FD, sock.fileno())
    receiver.bind(address)
    return receiver


def start_program(address: str, sock: socket.socket | None = None) -> Any:
    """In a forked child: start a program that binds. It ends when this child does, by the end of its input."""
    number = sock.fileno() if sock else -1
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, address, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[number] if sock else [],
    )
    assert program.stdout is not None
    if (code := int(program.stdout.readline())) == errno.EADDRINUSE:
        raise OSError(code, os.strerror(code))
    return program


# ---- the proofs ------------------------------------------------------------------------------------------------------


def probed(kind: str, child: Any) -> Row:
    asked = f"{kind}: a port probed and closed, 16 launchers at once, 200 ports: several of {STARTS} starts lost"
    if not RANGE.narrow:
        return Row(asked, "this kernel can't narrow the range of one socket", met=False)
    found = race(LAUNCHERS, RANGE.probe, child, starts=STARTS)
    told = f"{found['lost']} lost of {found['starts']}; {len(found['addresses'])} ports drawn"
    return Row(asked, told, found["starts"] == STARTS and found["lost"] >= 3)


def passed(kind: str, child: Any, starts: int) -> Row:
    found = race(LAUNCHERS, pass_on, child, starts=starts, clients=True)
    answered = found["answers"].get("answered", 0)
    told = f"{found['lost']} lost of {found['starts']}; {answered} clients answered that came before the child"
    asked = f"{kind}: the bound socket passed on: 0 of {starts} starts lost, each early client answered"
    return Row(asked, told, found["came"] == {"bound": starts} and answered == starts)


def duplicates() -> Row:
    """In the machine's whole range, without any child: do the ports that one launcher probes differ?"""
    wide = PortRange.of(65536)
    every_second = wide.count // 2
    expected = 1.0
    for taken in range(PROBES):
        expected *= 1 - taken / every_second
    twice = sum(len({wide.probe() for _ in range(PROBES)}) < PROBES for _ in range(TRIALS))
    share, expected = twice / TRIALS, 1 - expected
    asked = f"the whole range of {wide.count} ports, {PROBES} probes: duplicates as if {every_second} ports were drawn"
    told = f"in {share:.1%} of {TRIALS} trials; by chance {expected:.1%}"
    return Row(asked, told, 0.6 < share / expected < 1.5)


def prove() -> list[Row]:
    return [
        probed("forked children", bind),
        probed("programs", start_program),
        passed("forked children", bind, PASSED),
        passed("programs", start_program, STARTS),
        duplicates(),
    ]


if __name__ == "__main__":
    for row in prove():
        print(row)
