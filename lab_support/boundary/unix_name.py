"""The listening socket's name, given by `--uds`: put into the file system at the start, and removed at the end.

A server that is killed leaves its name, and the next one takes the name over. So three steps must not interleave with
those of another server that starts or ends on the same path: seeing that nobody listens, removing the name, binding it.
All of them happen under a lock on the folder of the name: flock(2) on the folder itself, which needs no file and ends
with its holder. And at the end the name is removed only if it still leads to this socket.

A name that is another user's, is no socket, or is a link to one, is left alone.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from lab_support.config import ConfigError, is_utf8

_LONGEST = 107  # bytes: unix(7)
_PATIENCE = 5.0  # seconds until a start fails: any user who may read the folder can hold a lock on it indefinitely
_LAST_PATIENCE = 0.5  # seconds until an end goes on without the lock


class UnixName:
    """The socket and its name. A context manager; leaving it closes and removes them. Raises `ConfigError`."""

    def __init__(self, path: str, backlog: int) -> None:
        _check(path)
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _folder_of(path, _PATIENCE) as locked:
                if not locked:
                    raise OSError(errno.EAGAIN, f"another process has locked its folder for {_PATIENCE:g} s")
                _remove_stale(path)
                self.socket.bind(path)
                self.socket.listen(backlog)
                self._bound = os.lstat(path)
        except OSError as error:
            self.socket.close()
            raise ConfigError(f"--uds: cannot bind {path}: {error.strerror}; name another path") from error
        except ConfigError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.socket, suppress(OSError), _folder_of(self._path, _LAST_PATIENCE):
            # The kernel keeps the inode as long as the socket is open, so that nobody else can have its number.
            if os.path.samestat(self._bound, os.lstat(self._path)):
                os.unlink(self._path)


@contextmanager
def _folder_of(path: str, patience: float) -> Iterator[bool]:
    """Exclude other servers that start or end in this folder. False: another process held the lock for too long."""
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # this user may create names there, but not list them
        yield True
        return
    try:
        yield _lock(folder, time.monotonic() + patience)
    finally:
        os.close(folder)


def _lock(folder: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return True


def _check(path: str) -> None:
    if not is_utf8(path):
        raise ConfigError(f"--uds: got {path}, which is not UTF-8; name another path")
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigError(f"--uds: got a path of {len(os.fsencode(path))} bytes, expected at most {_LONGEST}: unix(7)")


def _remove_stale(path: str) -> None:
    """Remove the name that a killed server left. Raises `ConfigError` if it is in use or no socket of this user."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"--uds: {path} exists and is not a socket; name another path")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"--uds: {path} is another user's socket (uid {found.st_uid}); name another path")
    if _somebody_listens(path):
        raise ConfigError(f"--uds: another process listens on {path} already; name another path")
    os.unlink(path)


def _somebody_listens(path: str) -> bool:
    """Never waits. A server whose queue is full because it does not accept counts as well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED
