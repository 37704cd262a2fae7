"""How processes that are nobody's children here end: by which signal, or with which exit code.

A pidfd is readable as soon as its process has ended, so the watcher wakes at once. Linux 6.15 and later tell the wait
status through it, even after the parent has waited for the process. Before that it is known only while it is a zombie.
Linux only; runs in the process that watches, in one thread.
"""

import fcntl
import os
import select
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

from lab_support.instruments import proc
from lab_support.instruments.proc import Identity

# <linux/pidfd.h>: struct pidfd_info begins with a mask of 64 bits; its member exit_code is 60 bytes from the beginning.
_INFO = struct.Struct("=Q52xi")
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
_EXIT = 1 << 3


class Ends:
    """A pidfd for each process that is watched. A context manager: leaving it closes all."""

    def __init__(self) -> None:
        self._files: dict[Identity, int] = {}
        self._running = select.poll()

    def watch(self, processes: Iterable[Identity]) -> None:
        """Watch these from now on, too."""
        wanted = set(processes)
        for identity in wanted - self._files.keys():
            self._open(identity)

    def wait(self, seconds: float) -> bool:
        """Sleep until one that is watched ends, at most `seconds`. Returns whether one has ended."""
        return bool(self._running.poll(seconds * 1000))

    def ended(self) -> list[Identity]:
        """Those that have ended since the last call. They no longer wake `wait`; `status` knows them until `forget`."""
        by_file = {number: identity for identity, number in self._files.items()}
        found = [by_file[number] for number, _ in self._running.poll(0)]
        for identity in found:
            self._running.unregister(self._files[identity])
        return found

    def status(self, identity: Identity) -> int | None:
        """The wait status of a process that has ended; None while its parent has not waited for it, or if unknown."""
        answer = bytearray(_INFO.size)
        struct.pack_into("=Q", answer, 0, _EXIT)
        if identity not in self._files:
            return None
        try:
            fcntl.ioctl(self._files[identity], _GET_INFO, answer)
        except OSError:
            return None  # a kernel before 6.13
        mask, status = _INFO.unpack(answer)
        return status if mask & _EXIT else None

    def forget(self, identity: Identity) -> None:
        """Close the pidfd of a process that has ended."""
        if identity in self._files:
            number = self._files.pop(identity)
            with suppress(KeyError):
                self._running.unregister(number)
            os.close(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        for identity in list(self._files):
            self.forget(identity)

    def _open(self, identity: Identity) -> None:
        with suppress(OSError):  # it has ended, or this user has no descriptor left
            number = os.pidfd_open(identity.pid)
            process = proc.read_process(identity.pid)
            if process is None or process.identity != identity:  # the pid is another process's by now
                os.close(number)
                return
            self._files[identity] = number
            self._running.register(number, select.POLLIN)
