"""Processes that Python itself starts besides our children: its resource tracker, and under forkserver its fork server.

Both end by themselves once the last of our processes has gone, but nobody would have waited for them. The names with
an underscore are private ones of the standard library, the same from Python 3.11 to 3.13.
"""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from lab_support.boundary.lifeline import open_pidfd
from lab_support.config import ConfigError

PATIENCE = 1.0  # seconds that each of them gets to end; a stopped one never would

_tracker: Any = resource_tracker._resource_tracker  # type: ignore[attr-defined]
_server: Any = forkserver._forkserver  # type: ignore[attr-defined]
_LONGEST_NAME = "listener-12345678"  # of a fork server's socket


def keep_sockets_in(directory: str) -> None:
    """Make `multiprocessing` put its files into `directory`, instead of one of its own that nobody would clean up.

    Raises `ConfigError` if the name of a socket would not fit.
    """
    if len(os.fsencode(f"{directory}/{_LONGEST_NAME}")) > 107:
        raise ConfigError(f"temporary folder: {directory} is too long for a socket; name a shorter folder in TMPDIR")
    multiprocessing.current_process()._config["tempdir"] = directory  # type: ignore[attr-defined]


def resource_tracker_pid() -> int | None:
    """None if it does not run yet: the first spawn starts it."""
    return _tracker._pid


def fork_server_pid() -> int | None:
    return _server._forkserver_pid


def stop_python_processes() -> None:
    """End both and wait for them. Worst case: `PATIENCE` for each, plus the kernel's time to kill it."""
    stop_fork_server()
    descriptor, pid = _tracker._fd, _tracker._pid
    _tracker._fd = _tracker._pid = None
    _stop(descriptor, pid)


def stop_fork_server() -> None:
    """End the fork server and wait for it. Then the ends of children that it has not reported are lost: `join` of such
    a child returns, because the fork server's pipe is closed."""
    descriptor, pid, address = _server._forkserver_alive_fd, _server._forkserver_pid, _server._forkserver_address
    _server._forkserver_alive_fd = _server._forkserver_pid = _server._forkserver_address = None
    _stop(descriptor, pid)
    if pid is not None and address:
        with suppress(FileNotFoundError):
            os.unlink(address)


def _stop(descriptor: int | None, pid: int | None) -> None:
    """EOF on its pipe asks it to end. A stopped process never reads that, but SIGKILL ends it."""
    if descriptor is None or pid is None:
        return
    os.close(descriptor)
    if not _ends_within(pid, PATIENCE):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # it has been waited for already
        os.waitpid(pid, 0)


def _ends_within(pid: int, seconds: float) -> bool:
    process = open_pidfd(pid)
    if process is None:
        return _has_ended_within(pid, seconds)
    try:
        return bool(connection.wait([process], seconds))
    finally:
        os.close(process)


def _has_ended_within(pid: int, seconds: float) -> bool:
    """Poll waitpid(2), because without a pidfd there is nothing to wait on with a time limit. This reaps it, too."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                time.sleep(0.005)
                continue
        return True
    return False
