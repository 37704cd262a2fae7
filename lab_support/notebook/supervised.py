"""Starts a command under `supervisor.py`, from the kernel, and keeps what it prints.

The command is in a session of its own: an interrupt of the kernel does not reach it. It ends when `stop` is
called, or with the kernel, however the kernel ends. What a command means is not known here.
"""

import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

_SUPERVISOR = Path(__file__).with_name("supervisor.py")


class SupervisedProcess:
    """A running command. A context manager: leaving it stops the command.

    ready_fd: a descriptor of this process that the command is to have at the same number; closed here.
    environment: variables for the command, besides this process's own.
    """

    def __init__(
        self, command: list[str], *, grace: float, ready_fd: int = -1, environment: dict[str, str] | None = None
    ) -> None:
        self.grace = grace
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        # Files without names: read by position while they are written, and gone with the last descriptor.
        self._output, self._errors = os.memfd_create("output"), os.memfd_create("errors")
        words = [str(os.getpid()), str(grace), str(self.folder), str(ready_fd), *command]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(_SUPERVISOR), *words],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._errors,
            env=os.environ | (environment or {}) | {"TMPDIR": str(self.folder)},
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
        """What it printed on stdout so far."""
        return _read(self._output)

    @property
    def errors(self) -> str:
        """What it printed on stderr so far."""
        return _read(self._errors)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Wait for it to end by itself; False if it still runs after `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def readable(self, descriptor: int, seconds: float) -> bool:
        """Wait until `descriptor` has something to read or has ended; False after `seconds`."""
        return bool(select.select([descriptor], [], [], seconds)[0])

    def stop(self) -> int:
        """Ask it to end; its exit code. Worst case `grace` seconds, then it is killed.

        When this returns, it and all that it started have been waited for. Files that it left are in `folder`
        until `close`.
        """
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(b"s")
                self._process.stdin.close()
            except BrokenPipeError:
                pass  # it has already ended
        return self._process.wait()

    def files_left(self) -> list[str]:
        """Names of what lies in its temporary folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def close(self) -> None:
        """Stop it, and remove its temporary folder and its output."""
        self.stop()
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if self.folder.exists():
            self.folder.rmdir()
        os.close(self._output)
        os.close(self._errors)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")
