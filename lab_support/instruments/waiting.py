"""Shows what a hanging process waits for, by thread: state, kernel function, system call. Standard library only.

It looks twice, so that a thread that spins can be told from one that sleeps.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WaitingThread:
    """One thread at one moment; a field that the kernel doesn't tell is "".

    state: the kernel's letter. waits_in: the kernel function it sleeps in (/proc/…/wchan). system_call: number and
    arguments, or "running" outside the kernel. kernel_stack: for root only. cpu_ticks: spent between the two looks.
    """

    thread_id: int
    name: str
    state: str
    waits_in: str
    system_call: str
    kernel_stack: str
    cpu_ticks: int


def waiting_threads(pid: int, seconds: float = LOOK_SECONDS) -> list[WaitingThread]:
    """Every thread of `pid`, watched for `seconds`; empty if it has ended. Runs in any other process."""
    before = {thread: _cpu_ticks(pid, thread) for thread in _threads(pid)}
    time.sleep(seconds)
    return [_look(pid, thread, ticks) for thread, ticks in before.items() if _threads(pid)]


def _look(pid: int, thread: int, ticks_before: int) -> WaitingThread:
    folder = PROC / str(pid) / "task" / str(thread)
    fields = _stat(pid, thread)
    return WaitingThread(
        thread_id=thread,
        name=_read(folder / "comm"),
        state=fields[0] if fields else "",
        waits_in=_read(folder / "wchan"),
        system_call=_read(folder / "syscall"),
        kernel_stack=_read(folder / "stack"),
        cpu_ticks=_cpu_ticks(pid, thread) - ticks_before,
    )


def _threads(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(PROC / str(pid) / "task"))
    except OSError:
        return []


def _stat(pid: int, thread: int) -> list[str]:
    """The fields after the name, which may hold spaces and parentheses."""
    return _read(PROC / str(pid) / "task" / str(thread) / "stat").rpartition(")")[2].split()


def _cpu_ticks(pid: int, thread: int) -> int:
    fields = _stat(pid, thread)
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # gone, not allowed, or unknown to this kernel: the field is ""
