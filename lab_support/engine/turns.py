"""The queue of waiting sequences, grouped by the client's request that they came with (vLLM's "parent request").

The next one is taken from the request with the fewest running sequences, and of several such requests from the one
that came first. So a request for one sequence does not wait behind the thousand of another, and requests for one
sequence each are served in the order in which they came. Blocks and steps are scheduler.py's.
"""

import heapq
from collections.abc import Hashable, Iterator

from lab_support.engine.request import Parent, Sequence


class Turns:
    """All waiting sequences, and the number of running ones of each request. A sequence `join`s, then waits or runs."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Parent] = {}
        self._queued: dict[Parent, None] = {}  # those with sequences that wait
        self._arrivals = 0
        self._count = 0

    def __len__(self) -> int:
        """The number of waiting sequences."""
        return self._count

    def join(self, sequence: Sequence, parent: Hashable) -> None:
        """Add a new sequence, which waits."""
        self._arrivals += 1
        if parent not in self._parents:
            self._parents[parent] = Parent(parent, self._arrivals)
        sequence.arrival = self._arrivals
        sequence.parent = self._parents[parent]
        sequence.parent.live += 1
        self._queue(sequence)

    def peek(self) -> Sequence | None:
        """The sequence whose turn it is; it goes on waiting. None if none waits."""
        parent = min(self._queued, key=_turn, default=None)
        return parent.first() if parent else None

    def unserved(self) -> Iterator[Sequence]:
        """The first sequence of each request that has none running, in the order in which they came."""
        for parent in sorted((each for each in self._queued if not each.running), key=_turn):
            if sequence := parent.first():
                yield sequence

    def start(self, sequence: Sequence) -> None:
        """Move a sequence from waiting to running. It is the `first` of its request."""
        parent = sequence.parent
        heapq.heappop(parent.waiting)
        parent.running += 1
        self._dequeued(parent)

    def put_back(self, sequence: Sequence) -> None:
        """Move a sequence from running back to its old place in the queue."""
        sequence.parent.running -= 1
        self._queue(sequence)

    def leave(self, sequence: Sequence, ran: bool) -> None:
        """Remove a sequence that has ended or was aborted. Its `ended` is already set."""
        parent = sequence.parent
        parent.live -= 1
        if ran:
            parent.running -= 1
        else:
            self._dequeued(parent)
        if not parent.live:
            del self._parents[parent.key]

    def _queue(self, sequence: Sequence) -> None:
        heapq.heappush(sequence.parent.waiting, (sequence.arrival, sequence))
        self._queued[sequence.parent] = None
        self._count += 1

    def _dequeued(self, parent: Parent) -> None:
        self._count -= 1
        if not parent.first():
            del self._queued[parent]


def _turn(parent: Parent) -> tuple[int, int]:
    return parent.running, parent.arrival
