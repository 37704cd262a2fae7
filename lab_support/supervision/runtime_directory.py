"""The one place in the file system that a running server has: a private directory, gone when the server is.

In it: the names of the ZeroMQ sockets until everyone is connected, and the pages of the metrics. The launcher
holds a lock on it (flock(2)), which the kernel drops however the launcher ends. So the next start can tell the
directory of a dead server from that of a running one, and removes it.

The folder that it lies in may be everybody's (/tmp), so a name there proves nothing. The rules:

- Removed is only what belongs to this user and nobody else may enter, and only by whoever holds its lock.
- No link is followed: everything is opened relative to the descriptor of a directory that has been looked at.
- Whoever sweeps never makes a file. A directory without a lock is one whose maker is between two calls, or was killed
  there: it is empty, so rmdir(2) says who was first. The maker sees that it lost, and makes another.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from lab_support.config import ConfigError, is_utf8

_PREFIX = "lab-serve-"
_LOCK = "lock"
_TRIES = 100  # directories made, each lost to a sweep before it was locked
_PATIENCE = 1.0  # seconds that a dying launcher has to let go of its lock

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # without waiting for a FIFO's other end


class RuntimeDirectory:
    """Made by the launcher, mode 0700. A context manager; leaving it removes the directory."""

    def __init__(self, path: Path, held: "_Held", metric_files: Mapping[str, int]) -> None:
        self.path = path
        self._held = held
        self._metric_files = metric_files

    @classmethod
    def make(cls, run_id: str, metric_files: Mapping[str, int] | None = None) -> Self:
        """Sweep what dead servers of this user left, then make a new directory. Raises `ConfigError`.

        metric_files: how many bytes each file of metrics is to have, by name.
        """
        parent = "(none)"
        try:
            parent = tempfile.gettempdir()
            if not is_utf8(parent):
                raise ConfigError(f"temporary folder: got {parent}, which is not UTF-8; name another one in TMPDIR")
            sweep(Path(parent))
            return cls._make(Path(parent), run_id, metric_files or {})
        except OSError as error:
            raise ConfigError(
                f"temporary folder {parent}: {error.strerror}; make room there, or name another folder in TMPDIR"
            ) from error

    @classmethod
    def _make(cls, parent: Path, run_id: str, metric_files: Mapping[str, int]) -> Self:
        made = cls(*_make_and_hold(parent, f"{_PREFIX}{os.getuid()}-{run_id}-"), metric_files)
        with ExitStack() as undone:
            undone.push(made)
            made._furnish()
            undone.pop_all()
        return made

    def _furnish(self) -> None:
        self.metrics.mkdir(exist_ok=True)
        for name, size in self._metric_files.items():
            with suppress(FileExistsError):
                _reserve(self.metrics / name, size)

    def mend(self) -> None:
        """Make again what a cleaner of temporary folders has removed. Raises `OSError` where it can't be had."""
        if not self._held.leads_from(self.path):
            self.path.mkdir(mode=0o700)  # fails where the name is somebody else's by now
            self._hold_again()
        elif not self._held.is_locked():
            self._hold_again()
        self._furnish()

    def _hold_again(self) -> None:
        held = _hold_new(self.path)
        self._held.close()
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self.path, self._held)
        self._held.close()

    def close_lock(self) -> None:
        """In a child made by fork, which must not keep the launcher's lock."""
        self._held.close()

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
    return [path for path in sorted(parent.glob(f"{_PREFIX}{os.getuid()}-*")) if _remove_if_dead(path)]


def remove(path: str) -> None:
    """In a child that outlives the launcher: remove its directory, unless somebody else is doing so.

    The kernel may tell of the launcher's end a moment before it drops the lock.
    """
    deadline = time.monotonic() + _PATIENCE
    while not _remove_if_dead(Path(path)) and os.path.lexists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


class _Held:
    """A directory and the lock in it, both open. The lock is a file because NFS locks files across machines, and no
    directories. The directory is locked as well, shared: systemd-tmpfiles then leaves it alone however old it gets.
    """

    def __init__(self, directory: int, lock: int) -> None:
        self.directory = directory
        self.lock = lock
        with suppress(OSError):
            fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def leads_from(self, path: Path) -> bool:
        """Is `path` still the name of this directory?"""
        try:
            return os.path.samestat(os.lstat(path), os.fstat(self.directory))
        except FileNotFoundError:
            return False

    def is_locked(self) -> bool:
        """Would another server that looks find the lock?"""
        return os.fstat(self.lock).st_nlink > 0

    def close(self) -> None:
        os.close(self.directory)
        os.close(self.lock)


def _make_and_hold(parent: Path, prefix: str) -> tuple[Path, _Held]:
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            return path, _hold_new(path)
        except (FileNotFoundError, BlockingIOError):
            continue  # somebody's sweep came between two calls, and the directory is gone or about to go
        except OSError:
            _undo(path)
            raise
    raise OSError(0, f"{_TRIES} new folders in a row were removed by somebody")


def _hold_new(path: Path) -> _Held:
    """Lock what has just been made. Raises where a sweep was faster."""
    with ExitStack() as opened:
        directory = _open(opened, path, _DIRECTORY)
        lock = _open(opened, _LOCK, _FILE | os.O_CREAT | os.O_EXCL, directory)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = _Held(directory, lock)
        if not held.is_locked():
            raise FileNotFoundError(path)
        opened.pop_all()
        return held


def _undo(path: Path) -> None:
    """Of a directory that could not be locked. There may be no descriptor left to look at it with."""
    with suppress(OSError):
        (path / _LOCK).unlink(missing_ok=True)
        path.rmdir()


def _reserve(path: Path, size: int) -> None:
    """A file of zeros that has its room on the disk already. It will be mapped, and a write into a page for which the
    disk has no room is no error but a SIGBUS.
    """
    descriptor = os.open(path, _FILE | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            file.write(bytes(size))


def _remove_if_dead(path: Path) -> bool:
    """Was it ours and nobody's, and is it gone now? Never raises, never waits, never makes anything."""
    try:
        with ExitStack() as opened:
            directory = _open(opened, path, _DIRECTORY)
            if not _is_private(os.fstat(directory)):
                return False
            try:
                lock = _open(opened, _LOCK, _FILE, directory)
            except FileNotFoundError:
                os.rmdir(path)
                return True
            if not stat.S_ISREG(os.fstat(lock).st_mode):
                return False
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _remove(path, _Held(directory, lock))
    except OSError:
        return False


def _remove(path: Path, held: _Held) -> bool:
    """The lock goes last, so that no other state without one is ever seen than the empty directory."""
    for name in _names_in(held.directory):
        if name != _LOCK:
            _remove_entry(name, held.directory)
    with suppress(OSError):
        os.unlink(_LOCK, dir_fd=held.directory)
        if held.leads_from(path):
            os.rmdir(path)
            return True
    return False


def _remove_entry(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:  # of a directory: EISDIR, or EPERM on other systems than Linux
        shutil.rmtree(name, ignore_errors=True, dir_fd=directory)


def _names_in(directory: int) -> list[str]:
    with suppress(OSError):
        return os.listdir(directory)
    return []


def _is_private(found: os.stat_result) -> bool:
    """Made by this user's mkdtemp? A set-group-ID bit may come from the folder above: mkdir(2)."""
    return found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _open(opened: ExitStack, path: Path | str, flags: int, directory: int | None = None) -> int:
    descriptor = os.open(path, flags, 0o600, dir_fd=directory)
    opened.callback(os.close, descriptor)
    return descriptor
