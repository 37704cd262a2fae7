"""A plain server whose API servers nobody looks after, and the end of its launcher: what does a client get then?

For cells that write the launcher themselves. Standard library only, because each spawned child imports this file.

Taught in: 09_who_notices_a_death
"""

import multiprocessing
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from lab_support.instruments import proc

ANSWERED, REFUSED, SILENCE = "an answer", "a refusal", "a connection, and no answer"
RETURNS = "its main returns"
ENDS = (RETURNS, "SIGINT", "SIGTERM", "SIGKILL")
"""The ends of a launcher: by itself, or by a signal that it alone gets."""
_PATIENCE = 1.0  # seconds for one answer
_MOST = 20.0  # seconds for the launcher's start, and for its end


def serve(listening_socket: socket.socket) -> None:
    """Runs in an API server: answers each client with its pid, for ever."""
    while True:
        client, _ = listening_socket.accept()
        with client, suppress(OSError):
            client.recv(1000)
            client.sendall(str(os.getpid()).encode())


@dataclass(frozen=True)
class Ready:
    """Called in the launcher once its children run; returns when the launcher is to return. It travels by spawn."""

    pipe: Connection

    def __call__(self, listening_socket: socket.socket, children: Sequence[BaseProcess]) -> None:
        self.pipe.send((listening_socket.getsockname()[1], [child.pid for child in children]))
        self.pipe.recv()


Launcher = Callable[[Ready], object]


def after(launcher: Launcher, end: str, *, stopped: bool = False) -> dict[str, Any]:
    """Start `launcher(ready)` in a process of its own, let it end, and then ask its port; for `emit`.

    end: one of `ENDS`. stopped: its children are stopped before. Returns `client` (`ANSWERED`, `REFUSED` or `SILENCE`),
    `running`, the number of its children that still run, `parent`, that of one of them ("" if there is none), and
    `free`, whether a new server can have the port. Raises `RuntimeError` if it is not ready, or does not end.
    """
    if end not in ENDS:
        raise ValueError(f"got end {end!r}, expected one of {', '.join(ENDS)}")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_launch, args=(launcher, Ready(theirs)))
    process.start()
    theirs.close()
    with ours:
        port, pids = _when_ready(ours, process)
        with _all_ended(pids) as running:
            for pid in pids if stopped else ():
                os.kill(pid, signal.SIGSTOP)
            _end(process, end, ours)
            return {
                "client": _client_gets(port),
                "running": len(running()),
                "parent": _parent_of(running()),
                "free": _is_free(port),
            }


def _launch(launcher: Launcher, ready: Ready) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # this program may have begun with SIGINT ignored
    try:
        launcher(ready)
    except KeyboardInterrupt:  # as python does, without the traceback
        raise SystemExit(130) from None


def _when_ready(pipe: Connection, process: BaseProcess) -> tuple[int, list[int]]:
    with suppress(EOFError):
        if pipe.poll(_MOST):
            port, pids = pipe.recv()
            return port, pids
    process.kill()
    process.join()
    raise RuntimeError("got a launcher that ended or said nothing, expected a call of `ready`")


def _end(process: BaseProcess, end: str, pipe: Connection) -> None:
    """Returns once it has been waited for. Its sentinel is no use: its forked children hold a copy of the other end."""
    pid = process.pid or 0
    ended = os.pidfd_open(pid)
    try:
        if end == RETURNS:
            pipe.send("return")
        else:
            os.kill(pid, signal.Signals[end])
        in_time = select.select([ended], [], [], _MOST)[0]
    finally:
        os.close(ended)
    if not in_time:
        process.kill()
    process.join()
    if not in_time:
        raise RuntimeError(f"got a launcher that still ran {_MOST:g} s later, expected its end: {end}")


@contextmanager
def _all_ended(pids: Sequence[int]) -> Iterator[Callable[[], list[int]]]:
    """Gives a function that tells which of the processes still run. At the end, none of them does."""
    ends = {os.pidfd_open(pid): pid for pid in pids}

    def running() -> list[int]:
        ended = select.select(list(ends), [], [], 0)[0]
        return [pid for end, pid in ends.items() if end not in ended]

    try:
        yield running
    finally:
        for end in ends:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(end, signal.SIGKILL)
            select.select([end], [], [])
            os.close(end)


def _client_gets(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as client:
            client.sendall(b"Who are you?")
            return ANSWERED if client.recv(100) else REFUSED
    except TimeoutError:
        return SILENCE
    except OSError:
        return REFUSED


def _parent_of(pids: list[int]) -> str:
    """An orphan's new parent: process 1, or the nearest ancestor that has asked for orphans, a subreaper.

    A fork server's child is no orphan as long as that lives.
    """
    child = proc.read_process(pids[0]) if pids else None
    parent = proc.read_process(child.parent_pid) if child else None
    if parent is None:
        return ""
    fork_server = "the fork server" if "multiprocessing.forkserver" in parent.title else "a subreaper"
    return "process 1" if parent.pid == 1 else fork_server


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
