"""`fleet`: processes that a cell starts, stops, continues, and waits for, each with a result.

For a cell's own processes. Standard library only: the sockets on which they talk are the cell's.

Taught in: 07_how_do_strangers_find_each_other, 07a_what_crosses_between_them
"""

import json
import os
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


@contextmanager
def fleet() -> Iterator["Fleet"]:
    """Processes that are killed and waited for at the end, stopped ones too; their addresses are removed."""
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        processes = Fleet(folder)
        try:
            yield processes
        finally:
            processes.end()


class Fleet:
    """The processes of one `fleet` block."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._members: list[Member] = []

    @property
    def folder(self) -> str:
        """A folder for the sockets of all."""
        return self._folder

    def address(self, name: str) -> str:
        """The same address for the same name, for a ZeroMQ socket of one process and those that connect to it."""
        return f"ipc://{self._folder}/{name}"

    def start(self, work: Callable[..., Any], *arguments: Any) -> "Member":
        """Fork a process that runs `work(*arguments)`. Make no ZeroMQ context before, because its threads stay here."""
        member = Member(work, arguments)
        self._members.append(member)
        return member

    def end(self) -> None:
        """Kill all. When it returns, every process has been waited for."""
        for member in self._members:
            member.end()
        self._members.clear()


class Member:
    """One forked process. Its methods run in its parent."""

    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        reads, writes = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reads)
            _run(work, arguments, writes)
        os.close(writes)
        self._reads = reads
        self._received = b""
        self._ended = False

    def stop(self) -> None:
        """Stop it: from now on it does nothing, and nobody is told. Raises `RuntimeError` if it has ended."""
        os.kill(self._pid, signal.SIGSTOP)
        self.await_stop()

    def await_stop(self) -> None:
        """Wait until it is stopped, such as by itself. Raises `RuntimeError` if it ends instead."""
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self._ended = True
            raise RuntimeError("got a process that ended, expected one that can be stopped")

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def has_result(self, seconds: float) -> bool:
        """Wait up to `seconds` for its result, or its end."""
        return bool(select.select([self._reads], [], [], seconds)[0])

    def result(self, seconds: float = 20.0) -> Any:
        """The value that `work` returned, passed as JSON.

        Raises `RuntimeError` if there is none after `seconds`; with its error if it ended by one.
        """
        told = self._told(seconds)
        if "result" in told:
            return told["result"]
        why = f"it ended by {told['error']}" if told else f"it has ended, or did not return within {seconds:g} s"
        raise RuntimeError(f"got no result of a process: {why}")

    def error(self) -> str:
        """The error by which it has ended, such as "KeyError: 'prompt'"; "" if there is none so far."""
        return str(self._told(0.0).get("error", ""))

    def _told(self, seconds: float) -> dict[str, Any]:
        """What it has told until its end; nothing if it has not ended within `seconds`."""
        deadline = time.monotonic() + seconds
        while self.has_result(max(0.0, deadline - time.monotonic())):
            if not (piece := os.read(self._reads, 65536)):
                return json.loads(self._received) if self._received else {}
            self._received += piece
        return {}

    def end(self) -> None:
        """Kill it. When this returns, it has been waited for."""
        os.close(self._reads)
        if not self._ended:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _run(work: Callable[..., Any], arguments: tuple[Any, ...], writes: int) -> NoReturn:
    """In the child. Without ZeroMQ's own end, which waits for messages that nobody takes."""
    try:
        told = json.dumps({"result": work(*arguments)})
    except BaseException as error:
        traceback.print_exc()
        told = json.dumps({"error": f"{type(error).__name__}: {error}"})
    with open(writes, "wb") as pipe:
        pipe.write(told.encode())
    os._exit(0)
