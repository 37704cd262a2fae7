"""Descriptors of a child made by fork: it gets all of them, but may keep only those that spawn would have passed on.

They are found as spawn finds them: the child's arguments are pickled, and each descriptor in them reports itself. A
list written by hand would be incomplete sooner or later.
"""

import io
import os
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import context, reduction, resource_tracker
from typing import Any


def open_descriptors() -> set[int]:
    """The numbers of this process's open descriptors."""
    listing = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return {number for number in map(int, os.listdir(listing)) if _is_open(number)}  # listdir's own is closed by now


def descriptors_in(arguments: object) -> set[int]:
    """The descriptors that `multiprocessing` would pass on to a spawned process with these arguments."""
    recorder = _Recorder()
    context.set_spawning_popen(recorder)  # type: ignore[arg-type]
    try:
        reduction.dump(arguments, io.BytesIO())
    finally:
        context.set_spawning_popen(None)  # type: ignore[arg-type]
    tracker = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]  # spawn passes it on, too
    return recorder.descriptors | ({tracker} if tracker is not None else set())


class _Recorder:
    """Stands in for the process that `multiprocessing` is about to make."""

    def __init__(self) -> None:
        self.descriptors: set[int] = set()

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.add(descriptor)
        return descriptor

    class DupFd:
        def __init__(self, descriptor: int) -> None: ...

        def __reduce__(self) -> tuple[Any, ...]:
            return int, ()


def close(descriptors: Iterable[int]) -> None:
    for number in descriptors:
        with suppress(OSError):  # its owner has closed it
            os.close(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
