"""The one place in the file system that a running server has: a private directory, gone when the server is.

In it: the names of the ZeroMQ sockets until everyone is connected, and the pages of the metrics. The launcher
holds a lock on it (flock(2)), which the kernel drops however the launcher ends. So the next start can tell the
directory of a dead server from that of a running one, and removes it.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Self

from lab_support.config import ConfigError

_PREFIX = "lab-serve-"
_LOCK = "lock"


class RuntimeDirectory:
    """Made by the launcher, mode 0700. A context manager; leaving it removes the directory."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def make(cls, run_id: str) -> Self:
        """Sweep what dead servers of this user left, then make a new directory. Raises `ConfigError`."""
        parent = Path("(none)")
        try:
            parent = Path(tempfile.gettempdir())
            sweep(parent)
            path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-{run_id}-", dir=parent))
            try:
                lock = _lock(path)
                (path / "metrics").mkdir()
                _demand_room(path)
            except OSError:
                remove(str(path))
                raise
        except OSError as error:
            raise ConfigError(
                f"temporary folder {parent}: {error.strerror}; make room there, or name another folder in TMPDIR"
            ) from error
        return cls(path, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        remove(str(self.path))
        os.close(self._lock)

    def mend(self) -> None:
        """Make again what a cleaner of temporary folders has removed. Raises `OSError` where it can't be had."""
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # whoever made it meanwhile could look in
            raise FileExistsError(errno.EEXIST, f"{self.path} is somebody else's now")
        if not self._is_locked():
            lock = _lock(self.path)
            os.close(self._lock)
            self._lock = lock
        self.metrics.mkdir(exist_ok=True)

    def _is_locked(self) -> bool:
        """Is the lock in the folder still the one that is held here? The next start would sweep otherwise."""
        try:
            return os.path.samestat(os.stat(self.path / _LOCK), os.fstat(self._lock))
        except FileNotFoundError:
            return False

    def close_lock(self) -> None:
        """In a child made by fork, which must not keep the launcher's lock."""
        os.close(self._lock)

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    def socket_path(self, name: str) -> str:
        """Where the listener `name` has its name until everyone is connected. sun_path holds 107 bytes: unix(7)."""
        path = str(self.path / f"{name}.sock")
        if len(os.fsencode(path)) > 107:
            raise ConfigError(f"temporary folder: {path} is too long for a socket; name a shorter folder in TMPDIR")
        return path

    def unlink_sockets(self, but: str) -> None:
        """Everyone is connected: from here on the sockets live without names, all but one."""
        for path in self.path.glob("*.sock"):
            if path.stem != but:
                path.unlink(missing_ok=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the runtime directories of this user's dead servers; return what was removed."""
    swept = []
    for path in parent.glob(f"{_PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            os.close(_lock(path))  # raises where a living launcher holds it
            remove(str(path))
            swept.append(path)
    return swept


def remove(path: str) -> None:
    """Remove the directory and all that is in it, whoever else is doing the same."""
    shutil.rmtree(path, ignore_errors=True)


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _demand_room(directory: Path) -> None:
    """The metrics are mapped files: a write into one on a full disk is not an error but a SIGBUS."""
    probe = directory / "room"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, 8 * 1024 * 1024)
    finally:
        os.close(descriptor)
        probe.unlink()
