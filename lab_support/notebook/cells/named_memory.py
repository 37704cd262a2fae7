"""Removes the names that a cell's processes gave to semaphores and shared memory in /dev/shm.

Such a name outlives all processes that use it: shm_overview(7), sem_overview(7). Python's resource tracker would remove
the names made by `multiprocessing`, but it is a process like the others, and is killed with them. Runs in a cell's
supervisor, in its guard and in the kernel; standard library only.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress

_PLACE = os.path.realpath(os.fsencode("/dev/shm"))
_DELETED = b" (deleted)"
File = tuple[int, int]
"""A device and an inode."""
_REST = 10
"""A look at all processes takes milliseconds; the pause until the next one is this many times longer."""


class NamedMemory:
    """The names that one cell's processes have made. Create it before the first of them starts.

    A name is theirs if it is new and one of them held it, open or mapped, during a look. A name that was made and
    let go between two looks is not known to be theirs, and stays.
    """

    def __init__(self) -> None:
        self._before = set(_names())
        self._theirs: set[bytes] = set()
        self._changed = _change()
        self._next_look = 0.0

    def look_if_changed(self, pids: Iterable[int]) -> None:
        """As `look`, if any name has come or gone since the last time."""
        began = time.monotonic()
        if began >= self._next_look and (change := _change()) != self._changed:
            self._changed = change
            self.look(pids)
            self._next_look = began + _REST * (time.monotonic() - began)

    def look(self, pids: Iterable[int]) -> None:
        """Remember the names that `pids` hold now."""
        new = set(_names()) - self._before - self._theirs
        files = {name: file for name in new if (file := _file(os.path.join(_PLACE, name)))}
        if files:
            held = _held(pids)
            self._theirs |= {name for name, file in files.items() if file in held}

    def remove(self) -> None:
        """Remove their names, when none of them runs any more. A name that another process holds stays."""
        left = [os.path.join(_PLACE, name) for name in self._theirs.intersection(_names())]
        held = _held(int(name) for name in os.listdir("/proc") if name.isdigit()) if left else set()
        for path in left:
            with suppress(OSError):  # it is another user's, or gone
                if _file(path) not in held:
                    os.unlink(path)


def _names() -> list[bytes]:
    with suppress(OSError):
        return os.listdir(_PLACE)
    return []


def _change() -> int:
    """The time when a name last came or went, in nanoseconds."""
    with suppress(OSError):
        return os.stat(_PLACE).st_mtime_ns
    return 0


def _file(path: bytes) -> File | None:
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _held(pids: Iterable[int]) -> set[File]:
    """The files there that they have mapped or open, except of processes that this user may not look at.

    Not by name: a semaphore's mapping bears the temporary name under which the C library created it.
    """
    return {file for pid in pids for file in (*_mapped(pid), *_open(pid)) if file}


def _mapped(pid: int) -> list[File]:
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        return [_mapped_file(line) for line in file if _PLACE in line]
    return []


def _mapped_file(line: bytes) -> File:
    """Its device and inode: proc_pid_maps(5)."""
    _, _, _, device, inode, _ = line.split(None, 5)
    major, minor = device.split(b":")
    return os.makedev(int(major, 16), int(minor, 16)), int(inode)


def _open(pid: int) -> list[File | None]:
    with suppress(OSError):
        folder = os.fsencode(f"/proc/{pid}/fd")
        return [_file(os.path.join(folder, name)) for name in os.listdir(folder)]
    return []
