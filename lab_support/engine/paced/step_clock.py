"""Lets each step take its time, on a schedule of absolute times.

A GPU that always has work begins a step when the one before ends. So a step is due at the time at which the one before
was due, plus its own duration: Python's work between two steps, and a wake-up that comes late, are part of the step
and don't add up. (vLLM's asynchronous scheduling hides its own Python in the same way.) If Python takes longer than
the step, the step is late; the next one begins then, because no GPU would catch up.
"""

import queue
import time
from collections.abc import Callable

from lab_support.pace.pace import PaceCounts


class StepClock:
    """Used by the loop of one engine core. idle_until: the time at which its last wait for a request ended."""

    def __init__(self, counts: PaceCounts, idle_until: Callable[[], float]) -> None:
        self._counts = counts
        self._idle_until = idle_until
        self._due = 0.0
        self._interrupts: queue.SimpleQueue[None] = queue.SimpleQueue()

    def end_step(self, seconds: float) -> None:
        """Wait until a step of this duration is due. Takes no CPU time meanwhile."""
        self._due = max(self._due, self._idle_until()) + seconds
        now = time.monotonic()
        if now < self._due:
            self._wait(self._due - now)
            return
        self._counts.late_steps += 1
        self._counts.late_seconds += now - self._due
        self._due = now

    def interrupt(self) -> None:
        """End the wait. A signal handler may call it, because SimpleQueue.put never waits for its own thread."""
        self._interrupts.put(None)

    def _wait(self, seconds: float) -> None:
        try:
            self._interrupts.get(timeout=seconds)
        except queue.Empty:
            return
