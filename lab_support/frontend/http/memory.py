"""What clients make an API server hold: one budget in bytes, which everything of that kind takes from and gives back.

Bodies that arrive, the texts and token ids made of them, and answers that are collected or that nobody takes: each
request has one lease for all of them. When the budget is full, the lease that holds most gives up, whoever asked for
the last byte. So a small request is served beside those that fill the memory, and these pay for it: with a 503, or
where an answer has begun, with its end.

The figures are those of the large things (bytes as they are, objects by what they take in CPython), so that what the
process takes stays near the budget; what a connection and a request take by themselves is not counted.
"""

import logging
from collections.abc import Callable
from typing import Self

from lab_support.frontend.http.errors import ApiError, unavailable

log = logging.getLogger("lab.api")

TOKEN_ID = 40  # bytes: an int and its place in a list
STRING = 60  # beside its characters
CONTAINER = 200  # a small list, dict or struct
SEQUENCE = 4096  # what answers one sequence: a choice, its detokenizer, the constant parts of its events


class MemoryBudget:
    """One for each API server. Everything runs in its event loop. `most` and `held` are bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.leases: set[Lease] = set()

    def lease(self) -> "Lease":
        """For one request; a context manager, which gives back at its end what it still holds."""
        return Lease(self)

    def has_room_for(self, count: int) -> bool:
        """Would a request of so many bytes be let in, or would it be the one that has to give up?"""
        if self.held + count <= self.most:
            return True
        return count < max((lease.held for lease in self.leases if lease.on_revoke), default=0)

    def largest(self, asking: "Lease") -> "Lease":
        """Of those that can give up, and `asking`, the one that holds most."""
        able = [lease for lease in self.leases if lease.on_revoke and lease is not asking]
        return max((asking, *able), key=lambda lease: lease.held)


class Lease:
    """What one request holds.

    on_revoke: called when it has to give all of it up; None while it can't: then it is asked for nothing, but may
    not get more either. revoked: it had to; from then on it takes nothing and counts nothing.
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
        """Hold so many bytes more. False: it can't be, and this lease has given up all that it held."""
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
        """So many bytes in place of those held so far. Raises `ApiError` (503)."""
        self.give_back(self.held)
        self.demand(count)

    def give_back(self, count: int) -> None:
        if not self.revoked:
            self._change(-count)

    def has_room_for(self, count: int) -> bool:
        """Would it be let take so many bytes now?"""
        return self._budget.has_room_for(count)

    def revoke(self) -> None:
        """Give up all that it holds."""
        on_revoke, self.on_revoke = self.on_revoke, None
        self._change(-self.held)
        self.revoked = True
        try:
            if on_revoke:
                on_revoke()
        except Exception:  # whose memory this was has nothing to do with who asked for more
            log.exception("a request could not be told that it has to give up")

    def _change(self, count: int) -> None:
        self.held += count
        self._budget.held += count


def no_room() -> ApiError:
    return unavailable(
        "the server's memory for requests is full (--api-server-memory-mib), and this one held most of it; "
        "send less at once, or try again",
        "out_of_memory",
    )
