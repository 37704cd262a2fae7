"""Children of every fate, by `in_forked_child` and `in_started_child`."""

import ctypes
import os
import sys
import threading

from lab_support.experiments.child import in_forked_child, in_started_child
from lab_support.experiments.program import emit


def raise_something() -> None:
    raise ValueError("of this text")


def hang() -> None:
    held.acquire()


def add(one: int, other: int) -> int:
    return one + other


def exit_at_once() -> None:
    os._exit(7)


if __name__ == "__main__":
    held = threading.Lock()
    held.acquire()
    emit("forked", fate="returns", **in_forked_child(lambda: 42))
    emit("forked", fate="raises", **in_forked_child(raise_something))
    emit("forked", fate="crashes", **in_forked_child(lambda: ctypes.string_at(0)))
    emit("forked", fate="hangs", **in_forked_child(hang, 1.0))
    emit("forked", fate="leaves normally", **in_forked_child(lambda: 42, leave_normally=True))
    for method in ("spawn", "forkserver"):
        emit("started", fate="returns", method=method, **in_started_child(method, add, 40, 2))
    emit("started", fate="exits", method="spawn", **in_started_child("spawn", exit_at_once))
    sys.exit(0)
