"""Small children for the tests of `boundary/`: each function is a `main` behind a module name of its own.

`Birth.module` names a module, so `tests.boundary.children_under_test` has one `main`, which looks up what to do.
"""

import logging
import os
import signal
import socket
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from lab_support.boundary.counters import Counters
from lab_support.boundary.lifeline import end_process, vital
from lab_support.boundary.messages import Fatal, Hello, Ready, encode
from lab_support.tracing.trace import Trace


def main(name: str, trace: Trace, control: Connection, what: str, *arguments: object) -> int:
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
    counters.claim(slot)
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


def _no_memory() -> None:
    raise MemoryError


def fail_in_its_last_act(name: str, control: Connection) -> int:
    end_process(5, _no_memory)


def lose_a_vital_thread(name: str, control: Connection) -> int:
    """Neither the log nor Python's hook for threads is of any use without memory."""

    class NoMemory(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _no_memory()

    logging.getLogger().handlers = [NoMemory()]
    threading.excepthook = lambda failure: _no_memory()
    threading.Thread(target=vital(_no_memory)).start()
    signal.pause()
    return 0


def raise_with_a_thread_that_never_ends(name: str, control: Connection) -> int:
    """The interpreter's own farewell would wait for it."""
    threading.Thread(target=threading.Event().wait).start()
    raise ZeroDivisionError


def report_signals(name: str, control: Connection) -> int:
    """Says what it does with signals, as the kernel has it: bit n - 1 stands for signal n."""
    lines = Path("/proc/self/status").read_text().splitlines()
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigBlk"))}
    control.send_bytes(encode(Ready({name: str(mask) for name, mask in masks.items()})))
    signal.pause()
    return 0


def hold_the_gil(name: str, control: Connection) -> int:
    """In C, without ever giving the interpreter back: what a driver that hangs looks like."""
    import ctypes

    control.send_bytes(encode(Hello()))
    ctypes.PyDLL(None).sleep(1000)
    return 0
