"""Shared pages: a few numbers that every API server may read and only their owner writes.

One memory file (memfd_create(2): memory with a descriptor and without a name) is mapped by all API servers. Each has
a slot of 64 bytes, a cache line of its own, so that two writers never contend for one; a number is one aligned machine
word, so that a reader sees the old value or the new one, never half of each. There is no lock.
"""

import mmap
import os
import sys
import tempfile
from typing import Self

from lab_support.boundary.passed_descriptor import PassedDescriptor

_SLOT_BYTES = 64
_WORD_BYTES = 8
_WORDS = _SLOT_BYTES // _WORD_BYTES
_REQUESTS_IN_FLIGHT, _CONNECTIONS, _ACCEPTED, _SEQUENCES_IN_FLIGHT = range(4)  # words within a slot

TAKES_NONE = 1 << 62
"""Stands for "takes no connections": larger than any real count, so this slot is never chosen."""


class Counters:
    """Made by the launcher with `slots` for its API servers, then given to each, which calls `claim`.

    A context manager: leaving it unmaps the page in this process; the memory goes with its last holder.
    """

    def __init__(self, slots: int, descriptor: int | None = None) -> None:
        self.slots = slots
        fresh = descriptor is None
        self._descriptor = _nameless_file() if descriptor is None else descriptor
        os.ftruncate(self._descriptor, slots * _SLOT_BYTES)
        self._map = mmap.mmap(self._descriptor, slots * _SLOT_BYTES)
        self._words = memoryview(self._map).cast("q")
        self._own = 0
        for slot in range(slots) if fresh else ():
            self.clear(slot)

    def __reduce__(self) -> tuple[type["Counters"], tuple[int, int]]:
        return Counters, (self.slots, PassedDescriptor(self._descriptor))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self._descriptor)

    def claim(self, slot: int) -> Self:
        """Make this process the only writer of `slot` from now on. A predecessor's numbers are cleared."""
        self._own = slot * _WORDS
        self.clear(slot)
        return self

    def clear(self, slot: int) -> None:
        """Mark `slot` as unowned: no requests, and no connections taken. Also called once its owner has ended."""
        self._words[slot * _WORDS + _REQUESTS_IN_FLIGHT] = 0
        self._words[slot * _WORDS + _CONNECTIONS] = TAKES_NONE
        self._words[slot * _WORDS + _ACCEPTED] = 0
        self._words[slot * _WORDS + _SEQUENCES_IN_FLIGHT] = 0

    @property
    def requests_in_flight(self) -> int:
        """Requests that this API server is answering."""
        return self._words[self._own + _REQUESTS_IN_FLIGHT]

    @requests_in_flight.setter
    def requests_in_flight(self, count: int) -> None:
        self._words[self._own + _REQUESTS_IN_FLIGHT] = count

    @property
    def sequences_in_flight(self) -> int:
        """Sequences that these requests are for."""
        return self._words[self._own + _SEQUENCES_IN_FLIGHT]

    @sequences_in_flight.setter
    def sequences_in_flight(self, count: int) -> None:
        self._words[self._own + _SEQUENCES_IN_FLIGHT] = count

    @property
    def connections(self) -> int:
        """Connections that this API server has open; `TAKES_NONE` while it takes no new ones."""
        return self._words[self._own + _CONNECTIONS]

    @connections.setter
    def connections(self, count: int) -> None:
        self._words[self._own + _CONNECTIONS] = count

    def total(self) -> int:
        """Requests in flight, summed over all API servers."""
        return sum(self._words[_REQUESTS_IN_FLIGHT::_WORDS])

    def total_sequences(self) -> int:
        """Sequences in flight, summed over all API servers."""
        return sum(self._words[_SEQUENCES_IN_FLIGHT::_WORDS])

    def connections_by_slot(self) -> list[int]:
        """`connections` of every slot."""
        return self._words[_CONNECTIONS::_WORDS].tolist()

    @property
    def accepted(self) -> int:
        """Connections that this API server has taken so far."""
        return self._words[self._own + _ACCEPTED]

    @accepted.setter
    def accepted(self, count: int) -> None:
        self._words[self._own + _ACCEPTED] = count

    def accepted_by_slot(self) -> list[int]:
        """`accepted` of every slot."""
        return self._words[_ACCEPTED::_WORDS].tolist()


def _nameless_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("lab-counters")
    with tempfile.TemporaryFile() as file:  # it has a name for an instant: the best that other systems offer
        return os.dup(file.fileno())
