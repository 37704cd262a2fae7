"""A pretend driver: a small model of a library that speaks to a device. There is no device behind it.

It has state in memory, a thread that does the work, and "device memory", which the kernel is told not to copy when the
process forks. A forked child's view of it follows from these three, and says nothing about NVIDIA's driver. Standard
library only, because a cell's own processes import it.

Taught in: 05_why_does_cuda_break_after_fork, 06_which_start_method
"""

import mmap
import os
import queue
import threading
from collections.abc import Callable
from typing import Any


class Driver:
    """Starts by itself at its first use. A handle is the number of a value that was stored.

    device: a file; without it nothing can be computed.
    """

    def __init__(self, device: str = "/dev/zero") -> None:
        self.device = device
        self.refused = ""
        self.kept: list[mmap.mmap] = []
        self.forget()

    def forget(self) -> None:
        """Return to the state before the first use."""
        self.worker: threading.Thread | None = None
        self.stored = 0

    def refuse(self) -> None:
        """From now on, answer with an error instead of trying."""
        self.refused = "the driver was started before the fork: not to be used in this process"

    def store(self, value: int) -> int:
        """Put a byte into the device's memory, and return its handle."""
        return self.run(lambda: self._store(value))

    def load(self, handle: int) -> int:
        return self.run(lambda: self.peek(handle))

    def peek(self, handle: int) -> int:
        """The same as `load`, but in the caller's own thread."""
        return self.memory[handle]

    def run(self, job: Callable[[], Any]) -> Any:
        """Run `job` in the driver's thread and return its result. Raises `OSError` if there is no device."""
        if self.refused:
            raise RuntimeError(self.refused)
        if self.worker is None:
            self._start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.jobs.put((job, answer))
        return answer.get()

    def _start(self) -> None:
        os.stat(self.device)
        self.memory = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory.madvise(mmap.MADV_DONTFORK)
        self.kept.append(self.memory)  # never unmapped: in a forked child, its address may belong to another mapping
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()

    def _work(self) -> None:
        while True:
            job, answer = self.jobs.get()
            answer.put(job())

    def _store(self, value: int) -> int:
        self.memory[self.stored] = value
        self.stored += 1
        return self.stored - 1


driver = Driver()
"""This process's own driver, like a library's; not started yet."""
