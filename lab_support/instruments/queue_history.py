"""The accept queue of a port over time: a thread samples it every few milliseconds while something else happens.

    with watching_accept_queue(port) as watch:
        ...  # make connections
    watch.history()

A sample is one request to sock_diag and wakes no process. Nothing here knows processes or draws.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab_support.instruments.kernel import ListenOverflows, accept_queues, listen_overflows

EVERY = 0.01
"""Seconds between two samples."""


@dataclass(frozen=True, slots=True)
class QueueSample:
    """One sample. at: seconds since the watch began; waiting: connections in all queues of the port together."""

    at: float
    waiting: int


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """Samples of the accept queues of one port.

    limit: the sum of the backlogs given to `listen`; None if unknown. The kernel takes one more in each queue. queues:
    the largest number of listening sockets. overflows: connections, in the whole network namespace, that met a full
    queue meanwhile; None if they are not counted. reason: what is missing and why, or "".
    """

    port: int
    samples: tuple[QueueSample, ...]
    queues: int
    limit: int | None
    overflows: int | None
    reason: str = ""

    @property
    def most(self) -> int:
        """The longest queue of all samples; 0 without samples."""
        return max((sample.waiting for sample in self.samples), default=0)

    @property
    def seconds(self) -> float:
        return self.samples[-1].at if self.samples else 0.0

    @property
    def share_of_time_waiting(self) -> float:
        """The share of samples with at least one connection waiting."""
        return sum(sample.waiting > 0 for sample in self.samples) / max(1, len(self.samples))


class QueueWatch:
    """Samples until it is stopped, in a thread of this process; see `watching_accept_queue`."""

    def __init__(self, port: int, every: float) -> None:
        self.port, self._every = port, every
        self._samples: list[QueueSample] = []
        self._queues, self._reason = 0, ""
        self._limit: int | None = None
        self._overflows_before = listen_overflows()
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="accept queue", daemon=True)
        self._look()
        self._thread.start()

    def history(self) -> QueueHistory:
        """All samples so far."""
        overflows: ListenOverflows = listen_overflows().since(self._overflows_before)
        reason = "; ".join(part for part in (self._reason, overflows.reason) if part)
        return QueueHistory(self.port, tuple(self._samples), self._queues, self._limit, overflows.overflows, reason)

    def stop(self) -> None:
        """When it returns, the thread has ended; it takes at most one more sample."""
        self._over.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def _look(self) -> None:
        seen = accept_queues(self.port)
        self._samples.append(QueueSample(round(time.monotonic() - self._began, 6), seen.waiting))
        if len(seen.queues) >= self._queues:
            limits = [queue.limit for queue in seen.queues if queue.limit is not None]
            self._queues, self._reason = len(seen.queues), seen.reason
            self._limit = sum(limits) if limits else None


@contextmanager
def watching_accept_queue(port: int, every: float = EVERY) -> Iterator[QueueWatch]:
    """Sample the accept queues of all TCP sockets that listen on `port` every `every` seconds while the body runs.

    Raises `NothingListens` if nobody listens there.
    """
    if not accept_queues(port).queues:
        raise NothingListens(f"got port {port}, on which nobody listens; expected the port of a running server")
    watch = QueueWatch(port, every)
    try:
        yield watch
    finally:
        watch.stop()


class NothingListens(LookupError):
    """No TCP socket of this network namespace listens on the port."""
