"""The only place in the file system that a running server uses: a private directory, removed when the server ends.

It holds the names of the ZeroMQ sockets until all processes are connected, and the files of the metrics. The launcher
holds a lock on it (flock(2)), which the kernel drops however the launcher ends. So the next server's start can tell
the directory of a dead server from that of a running one, and removes it.

Its parent folder may be open to everybody (/tmp), so a name there proves nothing. The rules:

- Only a directory that belongs to this user and that nobody else may enter is removed, and only by the process that
  holds its lock.
- No link is followed: everything is opened relative to the descriptor of a directory that has been checked.
- A sweep never makes a file. If a directory has no lock, its maker is between two calls, or was killed there: it is
  empty, so rmdir(2) decides who was first. A maker that lost sees it, and makes another.
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
_TRIES = 100  # directories made before giving up, each lost to a sweep before it was locked
_PATIENCE = 1.0  # seconds that a dying launcher has to release its lock

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
        """Remove what this user's dead servers left, then make a new directory. Raises `ConfigError`.

        metric_files: the size in bytes of each file of metrics, by name.
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
        """Make again what a cleaner of temporary folders has removed. Raises `OSError` if that fails."""
        if not self._held.leads_from(self.path):
            self.path.mkdir(mode=0o700)  # fails if another process has taken the name
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
        """Close the lock. Called in a child made by fork, which must not keep the launcher's lock."""
        self._held.close()

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    def socket_path(self, name: str) -> str:
        """The path of the listener `name`, until all processes are connected. sun_path holds 107 bytes: unix(7)."""
        path = str(self.path / f"{name}.sock")
        if len(os.fsencode(path)) > 107:
            raise ConfigError(f"temporary folder: {path} is too long for a socket; name a shorter folder in TMPDIR")
        return path

    def unlink_sockets(self, but: str) -> None:
        """Remove the names of all sockets but one. Called once all processes are connected."""
        for path in self.path.glob("*.sock"):
            if path.stem != but:
                path.unlink(missing_ok=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the runtime directories of this user's dead servers; return what was removed."""
    return [path for path in sorted(parent.glob(f"{_PREFIX}{os.getuid()}-*")) if _remove_if_dead(path)]


def remove(path: str) -> None:
    """Remove the directory of a dead launcher, unless another process is doing so. Called in a child that outlives it.

    Tries repeatedly, because the kernel may report the launcher's end a moment before it drops the lock.
    """
    deadline = time.monotonic() + _PATIENCE
    while not _remove_if_dead(Path(path)) and os.path.lexists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


class _Held:
    """A directory and the lock in it, both open.

    The lock is a file because NFS locks files across machines, but not directories. The directory has a shared lock as
    well, because systemd-tmpfiles then leaves it alone, however old it gets.
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
        """Would another server find the lock?"""
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
            continue  # another server's sweep came between two calls: the directory is removed, or about to be
        except OSError:
            _undo(path)
            raise
    raise OSError(0, f"{_TRIES} new folders in a row were removed by another process")


def _hold_new(path: Path) -> _Held:
    """Lock a new directory. Raises `FileNotFoundError` or `BlockingIOError` if a sweep was faster."""
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
    """Remove a directory that could not be locked. By path, because there may be no descriptor left to open it."""
    with suppress(OSError):
        (path / _LOCK).unlink(missing_ok=True)
        path.rmdir()


def _reserve(path: Path, size: int) -> None:
    """Make a file of zeros and reserve its room on the disk, because it will be mapped, and a write into a mapped page
    for which the disk has no room is a SIGBUS, not an error.
    """
    descriptor = os.open(path, _FILE | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            file.write(bytes(size))


def _remove_if_dead(path: Path) -> bool:
    """Remove a directory of this user whose launcher is dead. True if it is gone now. Never raises or waits, and makes
    nothing."""
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
    """Remove the lock last, so that a directory without one is always empty."""
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
