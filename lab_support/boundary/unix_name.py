"""A name for the listening socket, by `--uds`: put into the file system at the start, and taken out at the end.

A server that is killed leaves its name, and the next one takes the name over. So three moments must not mix with those
of another server that starts or ends on the same path: to see that nobody listens, to remove the name, to bind it. All
of them happen under a lock on the folder that the name is in: flock(2) on the folder itself, which needs no file and is
gone with its holder. And at the end the name is removed only while it still leads to this socket.

A name of another user's, or one that is no socket or a link to one, is left alone.
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
_PATIENCE = 5.0  # seconds; whoever may read the folder can hold a lock on it for ever. Then there is no start, …
_LAST_PATIENCE = 0.5  # … but there is an end


class UnixName:
    """The socket and its name. A context manager; leaving it closes the one and removes the other. `ConfigError`s."""

    def __init__(self, path: str, backlog: int) -> None:
        _check(path)
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _folder_of(path, _PATIENCE) as locked:
                if not locked:
                    raise OSError(errno.EAGAIN, f"somebody else has locked its folder for {_PATIENCE:g} s")
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
    """Alone among the servers that start or end in this folder. False: somebody held the lock for too long."""
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # one may make names there, and not list them
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
    """Remove the name that a killed server left. Where somebody listens, or it is another kind of name, refuse."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"--uds: {path} exists and is not a socket; name another path")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"--uds: {path} is another user's socket (uid {found.st_uid}); name another path")
    if _somebody_listens(path):
        raise ConfigError(f"--uds: somebody listens on {path} already; name another path")
    os.unlink(path)


def _somebody_listens(path: str) -> bool:
    """Never waits: a server that does not accept has a full queue, and is one all the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED
