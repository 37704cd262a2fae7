"""One budget, in bytes, for all memory that clients make an API server hold.

Each request has one lease for its body, the texts and token ids made of it, and the parts of its answer that are
collected or that its client has not taken. When the budget is full, the largest lease gives up all that it holds,
whichever request asked for the last byte. So small requests are served even while large ones fill the memory. The
large ones pay: with a 503, or with the end of an answer that has begun.

Only large things are counted (bytes by their length, objects by their size in CPython), so that the process stays near
the budget; the fixed cost of a connection and of a request is not counted.
"""

import logging
from collections.abc import Callable
from typing import Self

from lab_support.frontend.http.errors import ApiError, unavailable

log = logging.getLogger("lab.api")

TOKEN_ID = 40  # bytes: an int and its place in a list
STRING = 60  # besides its characters
CONTAINER = 200  # a small list, dict or struct
SEQUENCE = 4096  # the objects for one sequence: a choice, its detokenizer, the constant parts of its events


class MemoryBudget:
    """The budget of one API server. Everything runs in its event loop. `most` and `held` are bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.leases: set[Lease] = set()

    def lease(self) -> "Lease":
        """A lease for one request: a context manager, which gives back everything at its end."""
        return Lease(self)

    def has_room_for(self, count: int) -> bool:
        """Would a request of `count` bytes be let in, rather than be the one that has to give up?"""
        if self.held + count <= self.most:
            return True
        return count < max((lease.held for lease in self.leases if lease.on_revoke), default=0)

    def largest(self, asking: "Lease") -> "Lease":
        """The largest of `asking` and all leases that can give up."""
        able = [lease for lease in self.leases if lease.on_revoke and lease is not asking]
        return max((asking, *able), key=lambda lease: lease.held)


class Lease:
    """The memory that one request holds.

    on_revoke: called when the request has to give up all of it. While it is None, the lease is never revoked to make
    room for others, but it may still be refused more. revoked: it has given up; from then on it holds nothing.
    """

    __slots__ = ("_budget", "held", "on_revoke", "revoked")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.held = 0
        self.on_revoke: Callable[[], object] | None = None
        self.revoked = False

    def __enter__(self) -> Self:
        self._budget.leases.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.on_revoke = None
        self._change(-self.held)
        self.revoked = True
        self._budget.leases.discard(self)

    def take(self, count: int) -> bool:
        """Hold `count` more bytes. False: there is no room, and this lease has given up all that it held."""
        if self.revoked:
            return False
        self._change(count)
        budget = self._budget
        while budget.held > budget.most and not self.revoked:
            budget.largest(self).revoke()
        return not self.revoked

    def demand(self, count: int) -> None:
        """`take`, or raise `ApiError` (503)."""
        if not self.take(count):
            raise no_room()

    def set_held(self, count: int) -> None:
        """Hold `count` bytes instead of those held so far. Raises `ApiError` (503)."""
        self.give_back(self.held)
        self.demand(count)

    def give_back(self, count: int) -> None:
        if not self.revoked:
            self._change(-count)

    def has_room_for(self, count: int) -> bool:
        """Would `take(count)` succeed now?"""
        return self._budget.has_room_for(count)

    def revoke(self) -> None:
        """Give up everything that this lease holds."""
        on_revoke, self.on_revoke = self.on_revoke, None
        self._change(-self.held)
        self.revoked = True
        try:
            if on_revoke:
                on_revoke()
        except Exception:  # the request that asked for more must not fail because of this one
            log.exception("a request could not be told that it has to give up")

    def _change(self, count: int) -> None:
        self.held += count
        self._budget.held += count


def no_room() -> ApiError:
    return unavailable(
        "the server's memory for requests is full (--api-server-memory-mib), and this request held most of it; "
        "send less at once, or try again",
        "out_of_memory",
    )
