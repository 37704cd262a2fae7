"""The CPU time of processes, thread by thread, as the scheduler counts it: in nanoseconds, where `stat` has ticks.

Runs anywhere and looks from outside. Source: /proc/PID/task/TID/schedstat, whose first number is the time on a core
(Documentation/scheduler/sched-stats.rst).
"""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from lab_support.instruments.proc import PROC

_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds on a core. all: of every thread of a process; busiest: of the one with most, which is its limit."""

    all: float
    busiest: float


def thread_seconds(pid: int) -> dict[int, float]:
    """Seconds on a core of each thread that lives, by its id; empty if the process has ended."""
    found: dict[int, float] = {}
    with suppress(*_GONE):
        for task in (PROC / str(pid) / "task").iterdir():
            with suppress(*_GONE):
                found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def spent(before: Mapping[int, float], after: Mapping[int, float]) -> CpuTime:
    """Between two readings of `thread_seconds`. A thread that has ended meanwhile is not counted."""
    each = [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]
    return CpuTime(sum(each), max(each, default=0.0))


def busy_seconds(cores: Collection[int]) -> float:
    """Seconds that these cores of the machine have worked so far, added up. Source: proc(5), /proc/stat."""
    lines = (line.split() for line in (PROC / "stat").read_text().splitlines())
    names = {f"cpu{core}" for core in cores}
    return sum(_worked(words[1:9]) for words in lines if words[0] in names) / os.sysconf("SC_CLK_TCK")


def _worked(ticks: list[str]) -> int:
    """Without idling and waiting for a disk, and with the time that a hypervisor gave to others."""
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, ticks)
    return user + nice + system + irq + softirq + steal
