"""System calls of interest, through strace. For demonstrations only, because strace slows down the watched processes.

A command is started under strace, or running processes are watched during a piece of work. All threads and
children are followed. If strace is missing or refused, the trace is empty and says why; `audit.py` counts
descriptor messages without it.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab_support.instruments import proc

OF_INTEREST = (
    *("clone", "clone3", "fork", "vfork", "execve", "exit_group", "kill"),
    *("sendmsg", "recvmsg", "connect", "bind", "listen", "accept", "accept4"),
    *("epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2"),
)
MAKE_PROCESSES = ("clone", "clone3", "fork", "vfork")

_CALL = re.compile(r"^(\d+\.\d+) (\w+)\((.*)$")
_RESUMED = re.compile(r"^\d+\.\d+ <\.\.\. (\w+) resumed>(.*)$")
_RESULT = re.compile(r"^(.*)\)\s+= (-?\d+|\?|0x[0-9a-f]+)(?: ([A-Z]+\w*))?.*$")
_DESCRIPTORS = re.compile(r"cmsg_type=SCM_RIGHTS, cmsg_data=\[([\d, ]+)\]")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True)
class Call:
    """One system call.

    pid: of its process. at: seconds since the epoch. name: such as "recvmsg". arguments: as strace prints them, long
    strings cut.

    result: None if it never returned. error: such as "EAGAIN", else "".
    """

    pid: int
    at: float
    name: str
    arguments: str
    result: int | None
    error: str = ""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that a sendmsg or recvmsg carried with SCM_RIGHTS."""
        return tuple(int(number) for found in _DESCRIPTORS.findall(self.arguments) for number in found.split(","))

    @property
    def makes_process(self) -> bool:
        """Whether it made a process. A clone with CLONE_THREAD makes a thread."""
        return self.name in MAKE_PROCESSES and (self.result or 0) > 0 and "CLONE_THREAD" not in self.arguments


@dataclass(frozen=True, slots=True)
class Trace:
    """System calls of some processes.

    calls: in the order in which they began. reason: why there are none, or "".
    exit_code, output: of the command that was started under strace (standard output); else None and "".
    """

    calls: tuple[Call, ...]
    reason: str = ""
    exit_code: int | None = None
    output: str = ""

    def named(self, *names: str) -> tuple[Call, ...]:
        """The calls with one of these names."""
        return tuple(call for call in self.calls if call.name in names)

    @property
    def descriptor_messages(self) -> tuple[Call, ...]:
        """Each sent message that carried descriptors."""
        return tuple(call for call in self.named("sendmsg") if call.descriptors and not call.error)

    @property
    def processes_made(self) -> tuple[Call, ...]:
        """The calls that made a process."""
        return tuple(call for call in self.calls if call.makes_process)


def trace_command(command: Sequence[str], *, timeout: float = 60.0, calls: Iterable[str] = OF_INTEREST) -> Trace:
    """Run `command` to its end under strace. If strace is not available, `command` is not run.

    After `timeout` seconds it is killed with all that it started, and the trace says so.
    """
    with _folder(calls) as (words, folder, reason):
        if reason:
            return Trace((), reason)
        process = subprocess.Popen(
            [*words, "-qq", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        output, said, late = _until_its_end(process, timeout)
        found = tuple(_read(folder))
        if not found and process.returncode:
            reason = f"strace: {said.strip() or process.returncode}"
        elif late:
            reason = f"killed after {timeout:g} s"
        return Trace(found, reason, process.returncode, output)


def _until_its_end(process: "subprocess.Popen[str]", timeout: float) -> tuple[str, str, bool]:
    """Its output, strace's own messages, and whether it had to be killed. Its session has ended when this returns."""
    try:
        return *process.communicate(timeout=timeout), False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return *process.communicate(), True
    finally:
        if process.poll() is None:  # an interrupt
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def trace_processes(pids: Iterable[int], work: Callable[[], object], *, calls: Iterable[str] = OF_INTEREST) -> Trace:
    """Watch the processes `pids` while `work` runs, then detach. If strace can't attach, `work` runs unwatched.

    A call in which a thread waits when strace attaches is restarted, but epoll_wait may return EINTR instead.
    """
    with _folder(calls) as (words, folder, reason):
        if reason:
            work()
            return Trace((), reason)
        pids = list(pids)
        before = _stops(pids)
        strace = subprocess.Popen(
            [*words, *(word for pid in pids for word in ("-p", str(pid)))], stderr=subprocess.PIPE, text=True
        )
        try:
            reason = _wait_until_attached(strace, len(pids))
            if not reason:
                _wait_until_stopped_twice(pids, before)
            work()
        finally:
            strace.send_signal(signal.SIGINT)  # strace detaches; the watched processes go on
            strace.communicate()
        return Trace(tuple(_read(folder)), reason)


def _wait_until_attached(strace: "subprocess.Popen[str]", processes: int) -> str:
    """strace's message, or "" once it has reported each process as attached."""
    assert strace.stderr is not None
    for line in strace.stderr:
        if "attached" not in line:
            return line.strip()
        processes -= 1
        if processes == 0:
            return ""
    return "strace ended before it was attached"


def _wait_until_stopped_twice(pids: Iterable[int], before: dict[int, int]) -> None:
    """Wait until each sleeping thread was stopped twice, 1 s at most: strace says "attached" too early.

    It stops a thread that sleeps in a call once to attach and again when the call restarts. A connection that arrives
    before the second stop is missed. Threads that run are watched at once.
    """
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        now = _stops(pids)
        if all(now.get(thread, stops + 2) >= stops + 2 for thread, stops in before.items()):
            return
        time.sleep(0.002)


def _stops(pids: Iterable[int]) -> dict[int, int]:
    """The number of times each thread was taken off its processor so far."""
    switches = (proc.read_thread_switches(pid) for pid in pids)
    return {thread: one.voluntary + one.involuntary for threads in switches for thread, one in threads.items()}


@contextmanager
def _folder(calls: Iterable[str]) -> Iterator[tuple[list[str], Path, str]]:
    """The start of strace's command line, the folder for its files, and the reason why it can't be used, or ""."""
    if shutil.which("strace") is None:
        yield [], Path(), "strace is not installed (Debian, Ubuntu: apt install strace)"
        return
    with tempfile.TemporaryDirectory(prefix="lab-strace-") as folder:
        # One file for each thread, so that lines of different threads don't mix. `?`: some machines lack some calls.
        wanted = ",".join(f"?{name}" for name in calls)
        yield ["strace", "-ff", "-ttt", "-s", "48", "-e", f"trace={wanted}", "-o", f"{folder}/calls"], Path(folder), ""


# ---- what strace wrote -----------------------------------------------------------------------------------------------


def _read(folder: Path) -> list[Call]:
    found = [
        call
        for path in folder.glob("calls.*")
        for call in parse(path.read_text(errors="replace"), int(path.suffix.removeprefix(".")))
    ]
    return sorted(found, key=lambda call: call.at)


def parse(text: str, pid: int) -> Iterator[Call]:
    """The calls of one thread, from the output of `strace -ttt`."""
    pending: tuple[float, str, str] | None = None
    for line in text.splitlines():
        if resumed := _RESUMED.match(line):
            if pending and pending[1] == resumed[1]:
                yield _call(pid, pending[0], pending[1], pending[2] + resumed[2])
            pending = None
        elif call := _CALL.match(line):
            at, name, rest = float(call[1]), call[2], call[3]
            if rest.endswith(_UNFINISHED):
                pending = at, name, rest.removesuffix(_UNFINISHED)
            else:
                yield _call(pid, at, name, rest)
    if pending:
        yield _call(pid, *pending)


def _call(pid: int, at: float, name: str, rest: str) -> Call:
    found = _RESULT.match(rest)
    if found is None or found[2] == "?":
        return Call(pid, at, name, found[1] if found else rest, None)
    return Call(pid, at, name, found[1], int(found[2], 0), found[3] or "")
