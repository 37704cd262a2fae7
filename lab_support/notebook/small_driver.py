"""A driver in small, for experiments: like a GPU's, it does its work in a thread that it starts when first used.

It keeps that thread and what it knows of it in memory, and nobody told it about fork. Standard library only.

Taught in: 06_which_start_method
"""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any


class Driver:
    """device: the file without which nothing can be computed."""

    def __init__(self, device: str = "/dev/zero") -> None:
        self.device = device
        self._jobs: queue.SimpleQueue[Any] | None = None

    @property
    def initialised(self) -> bool:
        """What its memory says. To ask starts nothing."""
        return self._jobs is not None

    def run(self, job: Callable[[], Any]) -> Any:
        """What `job` returns, computed by the driver's thread. Raises `OSError` where there is no device."""
        if self._jobs is None:
            os.stat(self.device)
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(self._jobs,), name="driver", daemon=True).start()
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs.put((job, done))
        return done.get()

    def _work(self, jobs: "queue.SimpleQueue[Any]") -> None:
        while True:
            job, done = jobs.get()
            done.put(job())
