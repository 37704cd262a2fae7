"""Runs one command with a deadline: reports how it ended, its output, which processes hung, and which it left behind.

The command gets a session of its own. At the deadline each of its processes is examined, asked for its stacks
(SIGABRT: faulthandler writes them) and killed. Processes that a command leaves running are reported and killed.
Linux only.
"""

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab_support.instruments import proc
from lab_support.instruments.waiting import WaitingThread, waiting_threads
from lab_support.signal_names import signal_name

PR_SET_CHILD_SUBREAPER = 36
LEAVE_SECONDS = 2.0
"""For helper processes that end by themselves just after the command, such as Python's resource tracker."""
STACK_SECONDS = 1.0
KILL_SECONDS = 5.0
LONGEST_OUTPUT = 60_000


@dataclass(frozen=True, slots=True)
class HangingProcess:
    """One process that still ran at the deadline, or was left behind."""

    title: str
    state: str
    threads: tuple[WaitingThread, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a command. signal: the name of the signal that ended it, else ""; then exit_code is None.

    output and errors: the last part of what all its processes wrote. hung: its processes at the deadline. left: those
    that outlived it. unkillable: how many still ran after SIGKILL.
    """

    seconds: float
    exit_code: int | None
    signal: str
    timed_out: bool
    output: str
    errors: str
    hung: tuple[HangingProcess, ...]
    left: tuple[HangingProcess, ...]
    unkillable: int


def run_trial(command: list[str], *, deadline: float, environment: dict[str, str], folder: Path) -> Ended:
    """Run `command` in `folder`, for at most `deadline` seconds. Call it in the main thread.

    When it returns, no process of the command runs, except `unkillable`. Worst case: the deadline plus 10 seconds.
    """
    already = set(_children())
    began = time.monotonic()
    output, errors = folder / "output", folder / "errors"
    with _adopting_orphans(), output.open("wb") as out, errors.open("wb") as err:
        # Files, not pipes, because a process left behind would keep a pipe open indefinitely.
        process = subprocess.Popen(
            command,
            cwd=folder,
            # Samples count from LAB_STARTED, as `seconds` does: no sample comes after the end.
            env=environment | {"PYTHONFAULTHANDLER": "1", "LAB_STARTED": str(began)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        hung: tuple[HangingProcess, ...] = ()
        left: tuple[HangingProcess, ...] = ()
        try:
            timed_out = not _ended_within(process, deadline)
            seconds = time.monotonic() - began
            if timed_out:
                hung = _look_and_ask_for_stacks(_members(process.pid, already))
            else:
                left = _left_behind(process.pid, already)
        finally:
            unkillable = _kill_all(process, already)
    code = process.poll()
    return Ended(
        seconds=round(seconds, 3),
        exit_code=code if code is not None and code >= 0 else None,
        signal=signal_name(code) if code is not None and code < 0 else "",
        timed_out=timed_out,
        output=_tail(output),
        errors=_tail(errors),
        hung=hung,
        left=left,
        unkillable=unkillable,
    )


def _ended_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Orphans of the command become children of this process, so that none is missed: prctl(2)."""
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children() -> list[int]:
    return [process.pid for process in proc.all_processes() if process.parent_pid == os.getpid()]


def _members(leader: int, already: set[int]) -> list[proc.Process]:
    """The running processes of the command: itself, its descendants, its session and its orphans."""
    processes = {process.pid: process for process in proc.all_processes()}

    def belongs(process: proc.Process) -> bool:
        above: proc.Process | None = process
        while above is not None:
            if above.pid == leader or (above.parent_pid == os.getpid() and above.pid not in already):
                return True
            above = processes.get(above.parent_pid)
        return _session(process.pid) == leader

    return [process for process in processes.values() if not process.ended and belongs(process)]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _left_behind(leader: int, already: set[int]) -> tuple[HangingProcess, ...]:
    deadline = time.monotonic() + LEAVE_SECONDS
    while (members := _members(leader, already)) and time.monotonic() < deadline:
        time.sleep(0.02)  # poll: they are not our children until they are orphans, so we can't wait for them
    return tuple(_look(process, 0.1) for process in members)


def _look(process: proc.Process, seconds: float) -> HangingProcess:
    return HangingProcess(process.title, process.state, tuple(waiting_threads(process.pid, seconds)))


def _look_and_ask_for_stacks(members: list[proc.Process]) -> tuple[HangingProcess, ...]:
    seen = tuple(_look(process, 0.2) for process in members)
    # One after another, so that their stacks don't mix; children first, because some end with their parent.
    for process in reversed(members):
        _send(process.pid, signal.SIGABRT)
        _wait_for_end(process.pid, STACK_SECONDS)
    return seen


def _wait_for_end(pid: int, seconds: float) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        select.select([descriptor], [], [], seconds)
        os.close(descriptor)


def _kill_all(process: "subprocess.Popen[bytes]", already: set[int]) -> int:
    """Send SIGKILL until none is left; returns how many still ran after `KILL_SECONDS`."""
    deadline = time.monotonic() + KILL_SECONDS
    while (members := _members(process.pid, already)) and time.monotonic() < deadline:
        for member in members:
            _send(member.pid, signal.SIGKILL)
        _reap(process, already)
        time.sleep(0.01)
    _reap(process, already)
    return len(members)


def _reap(process: "subprocess.Popen[bytes]", already: set[int]) -> None:
    process.poll()
    for pid in set(_children()) - already - {process.pid}:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _tail(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "replace")[-LONGEST_OUTPUT:]
