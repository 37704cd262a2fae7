"""The files of a trace: `RUN.ROLE.PID.PART.trace` in one directory, bounded in size, the oldest removed first.

A process writes part 0, then part 1, and so on. It locks the part that it writes (flock(2)); the kernel drops the lock
however the process ends. Before a new part is made, the oldest parts that nobody has locked are removed until all files
of the directory, with the room that running parts may still take, are within the limit: also parts of other processes,
and of servers that have ended.

The directory may be shared with others, so a name in it proves nothing: a file is only made new (O_EXCL, which follows
no link), with mode 0600, and only regular files of this user that have such a name are removed.
"""

import fcntl
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
NAME = re.compile(r"(?P<run>[0-9a-f]{8})\.(?P<role>[a-z]+(?:-[0-9]+)?)\.(?P<pid>[0-9]+)\.(?P<part>[0-9]+)\.trace")
LARGEST_PART = 4 * MIB
PARTS = 32  # at least, within the limit
BLOCK = 4096  # bytes


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """The place for a server's trace. Sent to each child. limit: bytes of all files in the directory."""

    directory: str
    run: str
    limit: int

    @property
    def part_bytes(self) -> int:
        """The size at which a process goes on to its next part."""
        return min(LARGEST_PART, self.limit // PARTS)

    def make_directory(self) -> None:
        """Mode 0700 if it is new. Raises `OSError`, also if nothing can be written there. Called by the launcher."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13), self.directory)

    def open_part(self, role: str, part: int) -> int:
        """A descriptor of a new and locked file, for appending. Raises `OSError`."""
        self._make_room()
        path = Path(self.directory, f"{self.run}.{role}.{os.getpid()}.{part}.trace")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        with suppress(OSError):  # a file system without locks; then the part may be removed while it is written
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a moment if another process looks whether it is in use
        return descriptor

    def _make_room(self) -> None:
        """Remove the oldest files until another part fits. Files in use stay, and count as full ones."""
        found = own_files(self.directory)
        ended = {path: status for path, status in found.items() if not _in_use(path)}
        total = (len(found) - len(ended) + 1) * self.part_bytes + sum(map(_room, ended.values()))
        for path in sorted(ended, key=lambda each: ended[each].st_mtime_ns):
            if total <= self.limit:
                return
            total -= _room(ended[path])
            with suppress(FileNotFoundError):  # another process was faster
                os.unlink(path)


def own_files(directory: str) -> dict[str, os.stat_result]:
    """The trace files of this user in a directory, by path. Raises `OSError` if it can't be read."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    found[entry.path] = entry.stat(follow_symlinks=False)
    return {path: status for path, status in found.items() if _is_own(status)}


def _is_own(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _room(status: os.stat_result) -> int:
    """Bytes on the disk, about: even a small file takes a block."""
    return max(status.st_size, BLOCK)


def _in_use(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
