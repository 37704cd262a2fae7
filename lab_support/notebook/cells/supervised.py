"""Starts a command under `supervisor.py`, from the kernel, and keeps what it prints.

The command is in a session of its own: an interrupt of the kernel does not reach it. It ends when `stop` is
called, or with the kernel, however the kernel ends. This file knows nothing of the command's meaning.
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from lab_support.notebook.cells.descendants import children, kill_below, kill_family

_HERE = Path(__file__).parent
PATIENCE = 5.0
"""Seconds beyond its grace after which this process kills a supervisor that has not ended."""
_IN_UTF_8 = {"PYTHONUTF8": "1"}  # in any locale, because its output is read as UTF-8
_LONGEST_PLACE = 40
"""A socket's name may have 107 bytes (unix(7)), and commands make sockets in temporary folders of their own."""


class SupervisedProcess:
    """A running command. A context manager: leaving it stops the command.

    ready_fd: a descriptor of this process that the command inherits under the same number; closed here.
    folder: its temporary folder, by default a new one; removed in the end.
    environment: variables for the command, besides those of this process; it does not get those that are None.
    program: the supervisor's file.
    """

    def __init__(
        self,
        command: list[str],
        *,
        grace: float,
        ready_fd: int = -1,
        environment: Mapping[str, str | None] | None = None,
        program: str = "supervisor.py",
        folder: Path | None = None,
    ) -> None:
        self.grace = grace
        self.folder = folder or temporary_folder()
        # Files without names: they are read by position while they are written, and go with the last descriptor.
        self._output, self._errors = os.memfd_create("output"), os.memfd_create("errors")
        words = [str(os.getpid()), str(grace), str(self.folder), str(ready_fd), *command]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(_HERE / program), *words],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._errors,
            env=_environment({**(environment or {}), "TMPDIR": str(self.folder)}),
            pass_fds=(ready_fd,) if ready_fd >= 0 else (),
            start_new_session=True,
        )
        if ready_fd >= 0:
            os.close(ready_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def output(self) -> str:
        """Its output on stdout so far."""
        return _read(self._output)

    @property
    def errors(self) -> str:
        """Its output on stderr so far."""
        return _read(self._errors)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Wait for it to end by itself; False if it still runs after `seconds`."""
        ended = os.pidfd_open(self._process.pid) if self.running else -1  # Popen.wait looks at the clock, and sleeps
        if ended >= 0:
            self.readable(ended, seconds)
            os.close(ended)
        return not self.running

    def readable(self, descriptor: int, seconds: float) -> bool:
        """Wait until `descriptor` has something to read or has ended; False after `seconds`."""
        return bool(select.select([descriptor], [], [], seconds)[0])

    def interrupt(self) -> None:
        """Ask it to end and do not wait. May be called from a signal handler."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):  # it has already ended
                os.write(self._process.stdin.fileno(), b"s")

    def proceed(self) -> None:
        """Continue supervisor and guard if somebody has stopped them; otherwise do nothing."""
        for pid in [self._process.pid, *children(self._process.pid)] if self.running else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def end_command(self) -> None:
        """Kill all that the supervisor has started, then continue supervisor and guard, so that they can report it.

        This is for a command that stops them again and again: once it is dead, nobody stops them.
        """
        for supervisor in children(self._process.pid) if self.running else []:
            kill_below(supervisor)
        self.proceed()

    def kill(self) -> None:
        """Kill supervisor, guard and all below them, and wait for them."""
        if self.running:
            kill_family(self._process.pid)
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit code. Worst case: `grace` seconds, then its supervisor kills it.

        When this returns, it and all that it started have been waited for. Files that it left are in `folder`
        until `close`. A supervisor or a guard that does not act, because somebody has stopped it, is killed
        `PATIENCE` seconds later, with all below it.
        """
        self.interrupt()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if not self.wait(self.grace):
            self.proceed()
        if not self.wait(PATIENCE):
            self.kill()
        return self._process.wait()

    def files_left(self) -> list[str]:
        """The names of the files in its temporary folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def close(self) -> None:
        """Stop it, and remove its temporary folder and its output."""
        self.stop()
        for path in [*sorted(self.folder.rglob("*"), reverse=True), self.folder]:
            with suppress(FileNotFoundError):  # its guard cleans up too, perhaps at this moment
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        os.close(self._output)
        os.close(self._errors)


def temporary_folder() -> Path:
    """A new folder for this user alone, with a short path."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="lab-", dir=usual if len(usual) <= _LONGEST_PLACE else "/tmp"))


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with the changes; None takes a variable away."""
    wanted = {**os.environ, **_IN_UTF_8, **changes}
    return {name: value for name, value in wanted.items() if value is not None}


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")
