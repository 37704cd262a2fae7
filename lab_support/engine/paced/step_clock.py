"""Lets each step take its time, on a schedule of absolute times.

A GPU that always has work begins a step when the one before ends. So a step is due at the time at which the one before
was due, plus its own duration, and Python's work between two steps is a part of it (as under vLLM's asynchronous
scheduling). Two things can come in between:

- The kernel wakes this thread late, because the cores have other work. A GPU would not have waited, so the next steps
  are shorter until the schedule is kept again, unless it is behind by more than `MOST_BEHIND`.
- Python takes longer than the step. The step is late, and the schedule is moved by that: no GPU would catch up.
"""

import queue
import time
from collections.abc import Callable

from lab_support.pace.pace import PaceCounts

MOST_BEHIND = 0.1
"""Seconds. After a longer stall (a stopped process, a suspended machine) there would be a burst of steps."""


class StepClock:
    """Used by the loop of one engine core. idle_until: the time at which its last wait for a request ended."""

    def __init__(self, counts: PaceCounts, idle_until: Callable[[], float]) -> None:
        self._counts = counts
        self._idle_until = idle_until
        self._due = self._woke = 0.0
        self._interrupts: queue.SimpleQueue[None] = queue.SimpleQueue()

    def end_step(self, seconds: float) -> None:
        """Wait until a step of this duration is due. Takes no CPU time meanwhile."""
        begun = self._idle_until()
        if begun > self._due:
            self._due = self._woke = begun
        self._due += seconds
        now = time.monotonic()
        self._count_late(now, seconds)
        if now < self._due:
            self._wait(self._due - now)
        self._woke = time.monotonic()

    def _count_late(self, now: float, seconds: float) -> None:
        by_python = now - self._woke - seconds
        behind = now - self._due
        late = behind if behind > MOST_BEHIND else min(by_python, behind)
        if late > 0:
            self._counts.late_steps += 1
            self._counts.late_seconds += late
            self._due += late

    def interrupt(self) -> None:
        """End the wait. A signal handler may call it, because SimpleQueue.put never waits for its own thread."""
        self._interrupts.put(None)

    def _wait(self, seconds: float) -> None:
        try:
            self._interrupts.get(timeout=seconds)
        except queue.Empty:
            return
