"""The launcher's children: made once each, listened to all together, and waited for, every one.

Three things can be heard from a child: a message on its control connection, the end of that connection, and the end
of the process on its sentinel. They are waited for in one call together with the launcher's signals, so that a child
that dies while it starts is an event like any other and never a wait for ever.

The control connection is a pair of Unix sockets made before the child, one end of which the child inherits; it has
no name in the file system, and the launcher needs no ZeroMQ. vLLM's engine cores may be on another machine, so there
the same handshake goes over a ROUTER socket.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Self

from lab_support.boundary.lifeline import ReadEnd
from lab_support.boundary.messages import FromLauncher, ToLauncher, decoder, encode
from lab_support.boundary.start_method import Birth, start


@dataclass(frozen=True)
class Exited:
    """A child ended; it has been waited for. `code` is negative where a signal killed it."""

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
    """Something else that the launcher waits for is readable."""


Event = Exited | Signalled | Said | Readable


@dataclass
class _Child:
    process: BaseProcess
    control: connection.Connection | None  # None once the child has closed its end


class Signals:
    """The signals that the launcher hears. A handler only records: the number goes into a socket that is waited on.

    Made by the launcher's main thread; a context manager that gives the former handlers back.
    """

    TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

    def __enter__(self) -> Self:
        self.read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._former_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, _record) for number in self.TAKEN}
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._former_wakeup)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self.close()

    def close(self) -> None:
        self.read.close()
        self._write.close()

    def take(self) -> int:
        """The number of the next signal. One at a time: a second one has a meaning of its own."""
        return self.read.recv(1)[0]


def _record(number: int, frame: FrameType | None) -> None:
    """Nothing: `signal.set_wakeup_fd` has already written the number. Without a handler it would not."""


class Children:
    """All child processes of one launcher. Called by its main thread only.

    A context manager; when leaving it returns, every child has been waited for (killed, where it still ran).
    """

    def __init__(self, read_end: ReadEnd, directory: str, close_after_fork: Callable[[], None]) -> None:
        self._birth = (directory, read_end)
        self._close_launcher_after_fork = close_after_fork
        self._children: dict[str, _Child] = {}
        self._decoder = decoder(ToLauncher)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for name in self.running:
            self._bury(name)

    def start(self, method: str, name: str, module: str, *arguments: object) -> None:
        """Start the child `name`, whose `main(name, control, *arguments)` is in `module`."""
        ours, theirs = connection.Pipe()
        with theirs:
            birth = Birth(name, module, *self._birth)
            process = start(method, birth, (theirs, *arguments), self._close_after_fork)
        self._children[name] = _Child(process, ours)

    def rename(self, old: str, new: str) -> None:
        """From now on the child `old` is called `new` here; its own title is its own matter."""
        assert new not in self._children, new
        self._children[new] = self._children.pop(old)

    def _close_after_fork(self) -> None:
        """In a child made by fork: close the launcher's own descriptors, its ends to the siblings among them."""
        self._close_launcher_after_fork()
        for child in self._children.values():
            if child.control:
                child.control.close()

    @property
    def running(self) -> list[str]:
        return list(self._children)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, that of Python's resource tracker among them: it comes with the first spawn."""
        pids = {name: child.process.pid or 0 for name, child in self._children.items()}
        tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
        return pids | ({"resource-tracker": tracker} if tracker else {})

    def events(
        self, signals: Signals, deadline: float | None = None, others: Sequence[socket.socket | int] = ()
    ) -> Iterator[Event]:
        """Whatever happens next, one by one, until `deadline` (time.monotonic seconds; None is never).

        It may be left at any event: what was not yielded is still there for the next call.
        """
        while deadline is None or time.monotonic() < deadline:
            sentinels = {child.process.sentinel: name for name, child in self._children.items()}
            controls = {child.control: name for name, child in self._children.items() if child.control}
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = connection.wait([signals.read, *controls, *sentinels, *others], left)
            # Messages before ends: the last word of a child that is gone says why.
            for control in [found for found in ready if found in controls]:
                yield from self._hear(controls[control])
            if signals.read in ready:
                yield Signalled(signals.take())
            for sentinel in [found for found in ready if found in sentinels]:
                yield self._bury(sentinels[sentinel])
            if any(other in ready for other in others):
                yield Readable()

    def _hear(self, name: str) -> Iterator[Said]:
        child = self._children[name]
        assert child.control is not None
        try:
            while child.control.poll():
                yield Said(name, self._decoder.decode(child.control.recv_bytes()))
        except (EOFError, ConnectionResetError):
            child.control.close()
            child.control = None

    def _bury(self, name: str) -> Exited:
        child = self._children.pop(name)
        child.process.join()
        if child.control:
            child.control.close()
        code = child.process.exitcode
        assert code is not None
        child.process.close()
        return Exited(name, code)

    def tell(self, name: str, message: FromLauncher) -> None:
        """Send to one child. One that is dying may not hear it: its end is an event of its own."""
        child = self._children.get(name)
        if child and child.control:
            with suppress(BrokenPipeError, ConnectionResetError):
                child.control.send_bytes(encode(message))

    def send_signal(self, name: str, number: int) -> None:
        """To one child that has not been waited for yet, so that the pid can't have become somebody else's."""
        if name in self._children:
            with suppress(ProcessLookupError):  # under forkserver the fork server has waited for it already
                os.kill(self._children[name].process.pid or 0, number)

    def kill(self) -> None:
        """SIGKILL to all that are left. Their ends are still to come as events."""
        for name in self.running:
            self.send_signal(name, signal.SIGKILL)
