"""A poke: one process asks another to look at the accept queue. No data is sent. One eventfd(2) for each API server.

An eventfd is a number in the kernel: a write adds to it, a read returns it and leaves 0, and it is readable while it
is not 0. Pokes that come faster than they are read become one, so a poke never waits and never fills a buffer.
"""

import os
from typing import Self

from lab_support.boundary.passed_descriptor import PassedDescriptor


def needs_pokes(strategy: str) -> bool:
    """Do API servers poke each other under this `--accept`?"""
    return strategy in {"exclusive", "least-loaded"}


class Pokes:
    """Made by the launcher with `slots`, then given to each API server. A context manager."""

    def __init__(self, slots: int, descriptors: list[int] | None = None) -> None:
        self._descriptors = descriptors or [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(slots)]

    def __reduce__(self) -> tuple[type["Pokes"], tuple[int, list[int]]]:
        return Pokes, (len(self._descriptors), [*map(PassedDescriptor, self._descriptors)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def poke(self, slot: int) -> None:
        """Ask the owner of `slot` to look. If it has none now, its next owner will."""
        os.eventfd_write(self._descriptors[slot], 1)

    def poke_all(self) -> None:
        for slot in range(len(self._descriptors)):
            self.poke(slot)

    def poke_others(self, own: int) -> None:
        for slot in range(len(self._descriptors)):
            if slot != own:
                self.poke(slot)

    def descriptor(self, slot: int) -> int:
        """Readable once `slot` has been poked."""
        return self._descriptors[slot]

    def clear(self, slot: int) -> None:
        """Forget the pokes of `slot` so far."""
        try:
            os.eventfd_read(self._descriptors[slot])
        except BlockingIOError:
            return
