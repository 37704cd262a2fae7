"""Small children for the tests of `boundary/`: each function is a `main` behind a module name of its own.

`Birth.module` names a module, so `tests.boundary.children_under_test` has one `main`, which looks up what to do.
"""

import os
import signal
import socket
from multiprocessing.connection import Connection

from lab_support.boundary.counters import Counters
from lab_support.boundary.messages import Fatal, Hello, Ready, encode


def main(name: str, control: Connection, what: str, *arguments: object) -> int:
    return globals()[what](name, control, *arguments)


def report_descriptors(name: str, control: Connection, *_: object) -> int:
    """Says which descriptors it holds: number → what, for sockets, pipes and memory files."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
    control.send_bytes(encode(Ready(found)))
    return 0


def report_socket(name: str, control: Connection, listening: socket.socket) -> int:
    control.send_bytes(
        encode(
            Ready({"inode": os.fstat(listening.fileno()).st_ino, "parent": os.getppid(), "number": listening.fileno()})
        )
    )
    return 0


def count(name: str, control: Connection, counters: Counters, slot: int, times: int) -> int:
    counters.own(slot)
    for _ in range(times):
        counters.requests_in_flight += 1
    control.send_bytes(encode(Ready({"total": counters.total()})))
    control.recv_bytes()
    return 0


def wait_for_ever(name: str, control: Connection) -> int:
    control.send_bytes(encode(Hello()))
    signal.pause()
    return 0


def ignore_sigterm(name: str, control: Connection) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return wait_for_ever(name, control)


def fail(name: str, control: Connection) -> int:
    control.send_bytes(encode(Fatal(name, "no luck", 2)))
    return 2


def hold_the_gil(name: str, control: Connection) -> int:
    """In C, without ever giving the interpreter back: what a driver that hangs looks like."""
    import ctypes

    control.send_bytes(encode(Hello()))
    ctypes.PyDLL(None).sleep(1000)
    return 0
