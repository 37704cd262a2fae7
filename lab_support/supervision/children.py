"""The launcher's children: it starts them, listens to all of them in one call, and waits for every one.

A child can cause three events: a message on its control connection, the end of that connection, and the end of the
process on its sentinel. The launcher waits for them and for its signals in one call, so a child that dies while it
starts is an event like any other, and never leaves the launcher waiting forever.

The control connection is a pair of Unix sockets made before the child, which inherits one end; it has no name in the
file system, and the launcher needs no ZeroMQ. vLLM's engine cores may be on another machine, so there the same
handshake goes over a ROUTER socket.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Self

from lab_support.boundary.lifeline import ReadEnd, describe_exit, open_pidfd
from lab_support.boundary.messages import FromLauncher, ToLauncher, decoder, encode
from lab_support.boundary.signals import Signals
from lab_support.boundary.start_method import Birth, start
from lab_support.supervision import python_processes
from lab_support.supervision.runtime_directory import remove
from lab_support.tracing.files import TraceFiles
from lab_support.tracing.trace import NoTrace, Trace


@dataclass(frozen=True)
class Exited:
    """A child ended; it has been waited for. `code` is negative if a signal killed it."""

    name: str
    code: int


@dataclass(frozen=True)
class Signalled:
    """The launcher got SIGTERM, SIGINT, SIGHUP or SIGUSR1."""

    number: int


@dataclass(frozen=True)
class Said:
    """A child sent a message."""

    name: str
    message: ToLauncher


@dataclass(frozen=True)
class Readable:
    """One of `others`, the further descriptors that the launcher waits for, is readable."""


Event = Exited | Signalled | Said | Readable


LONGEST_WAIT = 3600.0  # seconds; a deadline may be further away than poll(2) can count
REPORT = 1.0  # seconds that a fork server gets to report how a child of its own ended


@dataclass
class _Child:
    """pidfd: None if there can't be one. control: None once the child has closed its end."""

    process: BaseProcess
    by_fork_server: bool
    pidfd: int | None
    control: connection.Connection | None

    @property
    def sentinel(self) -> int:
        """Readable once the process has ended. Not `process.sentinel` if possible: under forkserver that one depends
        on the fork server's report."""
        return self.process.sentinel if self.pidfd is None else self.pidfd

    def send_signal(self, number: int) -> None:
        """Signal by the pidfd, because under forkserver the pid may be reused: the fork server has waited for it."""
        with suppress(ProcessLookupError):
            if self.pidfd is None:
                os.kill(self.process.pid or 0, number)
            else:
                signal.pidfd_send_signal(self.pidfd, number)


class Children:
    """All child processes of one launcher. Called by its main thread only.

    A context manager; leaving it kills the children that still run, and waits for every one.
    """

    def __init__(
        self,
        read_end: ReadEnd,
        directory: str,
        close_after_fork: Callable[[], None],
        trace_files: TraceFiles | None = None,
        trace: Trace | None = None,
        *,
        stacks: bool = False,
    ) -> None:
        """trace_files: for the children; trace: the launcher's own. stacks: children write theirs when asked."""
        self._birth = (partial(remove, directory), read_end, trace_files)
        self._stacks = stacks
        self._trace = trace or NoTrace()
        self._close_launcher_after_fork = close_after_fork
        self._children: dict[str, _Child] = {}
        self._decoder = decoder(ToLauncher)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for name in self.running:
            self._reap(name)

    def start(
        self, method: str, name: str, module: str, *arguments: object, slot: int = -1, needs: tuple[str, ...] = ()
    ) -> None:
        """Start the child `name`, whose `main(name, trace, control, *arguments)` is in `module`.

        slot: of an API server. needs: modules that it imports first.
        Raises `OSError` if there is no room for it, and then leaves nothing behind.
        """
        self._trace.milestone(f"{method}: begin", name)
        ours, theirs = connection.Pipe()
        try:
            with theirs:
                birth = Birth(name, module, *self._birth, slot, needs, self._stacks)
                process = start(method, birth, (theirs, *arguments), self._close_after_fork)
        except OSError:
            ours.close()
            raise
        self._children[name] = _Child(process, method == "forkserver", open_pidfd(process.pid or 0), ours)
        self._trace.milestone(f"{method}: done", name, f"pid {process.pid}")

    def rename(self, old: str, new: str) -> None:
        """Call the child `old` `new` from now on. Its process title does not change."""
        assert new not in self._children, new
        self._children[new] = self._children.pop(old)

    def _close_after_fork(self) -> None:
        """Close the launcher's descriptors, those to siblings included. Called in a child made by fork."""
        self._close_launcher_after_fork()
        for child in self._children.values():
            if child.control:
                child.control.close()

    @property
    def running(self) -> list[str]:
        return list(self._children)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, including Python's resource tracker, which the first spawn starts."""
        pids = {name: child.process.pid or 0 for name, child in self._children.items()}
        tracker = python_processes.resource_tracker_pid()
        return pids | ({"resource-tracker": tracker} if tracker else {})

    def events(
        self, signals: Signals, deadline: float | None = None, others: Sequence[socket.socket | int] = ()
    ) -> Iterator[Event]:
        """Yield events as they happen, until `deadline` (time.monotonic seconds; None is never).

        The caller may stop at any event: those not yielded are still there for the next call.
        """
        adopts_orphans = signals.hears(signal.SIGCHLD)
        while deadline is None or time.monotonic() < deadline:
            if adopts_orphans:
                self._reap_orphans()
            ends = {child.sentinel: name for name, child in self._children.items()}
            controls = {child.control: name for name, child in self._children.items() if child.control}
            left = None if deadline is None else min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT)
            ready = connection.wait([signals.read, *controls, *ends, *others], left)
            # Messages before ends: the last message of a child that is gone says why.
            for control in [found for found in ready if found in controls]:
                yield from self._read_messages(controls[control])
            if signals.read in ready and (number := signals.take()) != signal.SIGCHLD:
                yield Signalled(number)
            for end in [found for found in ready if found in ends]:
                yield self._reap(ends[end])
            if any(other in ready for other in others):
                yield Readable()

    def _read_messages(self, name: str) -> Iterator[Said]:
        child = self._children[name]
        assert child.control is not None
        try:
            while child.control.poll():
                yield Said(name, self._decoder.decode(child.control.recv_bytes()))
        except (EOFError, OSError):  # it closed its end, or died within a message
            child.control.close()
            child.control = None

    def _reap(self, name: str) -> Exited:
        child = self._children.pop(name)
        _wait_for(child)
        if child.control:
            child.control.close()
        if child.pidfd is not None:
            os.close(child.pidfd)
        code = child.process.exitcode
        assert code is not None
        self._trace.milestone("ended", name, f"pid {child.process.pid} {describe_exit(code)}")
        child.process.close()
        return Exited(name, code)

    def _reap_orphans(self) -> None:
        """Wait for orphans that became the launcher's children. `multiprocessing` waits for those that it made."""
        own = {child.process.pid for child in self._children.values()} | {python_processes.fork_server_pid()}
        with suppress(ChildProcessError):  # there is no child at all
            # WNOWAIT leaves the ended child waitable. If it is one of our own, the rest is left until that is reaped.
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
                os.waitpid(ended.si_pid, 0)

    def tell(self, name: str, message: FromLauncher) -> None:
        """Send to one child. A dying child may not receive it; its end is an event of its own."""
        child = self._children.get(name)
        if child and child.control:
            with suppress(BrokenPipeError, ConnectionResetError):
                child.control.send_bytes(encode(message))

    def has_said(self, name: str) -> bool:
        """Is there a message of this child that was not yielded yet?"""
        child = self._children.get(name)
        return bool(child and child.control and child.control.poll())

    def send_signal(self, name: str, number: int) -> None:
        """To one child, if it has not ended."""
        if name in self._children:
            self._children[name].send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL to all that are left. Their ends follow as events."""
        for name in self.running:
            self.send_signal(name, signal.SIGKILL)


def _wait_for(child: _Child) -> None:
    """Wait for a child that has ended. Only the fork server knows how a child of its own ended. If it does not report
    that within `REPORT` seconds (it may be stopped), end the fork server."""
    if child.by_fork_server:
        child.process.join(REPORT)
        if child.process.exitcode is None:
            python_processes.stop_fork_server()
    child.process.join()
