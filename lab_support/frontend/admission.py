"""Admits requests for text, and counts them: refused ones get 400 or 503 before anything is computed."""

from collections.abc import Iterator
from contextlib import contextmanager

from lab_support.boundary.room import Places
from lab_support.frontend.app_state import AppState
from lab_support.frontend.http.errors import bad_request, unavailable

KEPT = 4  # one connection in this many is kept for requests other than those for text


class Admission:
    """Counts requests in flight, and refuses new ones that can't be answered or have too many sequences.

    A request asks for prompts × n sequences, which engine cores have to generate; --max-num-queued-reqs limits them (0:
    no limit). The sum is read and the own count raised without a lock, so API servers that admit at the same instant
    may exceed the limit by each other's admissions.

    A quarter of the connections that this API server has descriptors for are kept for other requests, so that `/health`
    is answered however many streams run.
    """

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._limit = state.config.max_num_queued_reqs
        self._counters = state.counters
        self._rejected = state.metrics.server.rejected
        self._places = Places()

    def check_open(self) -> None:
        """Could a request for one sequence be admitted? Raises `ApiError` (503)."""
        self._state.check_ready()
        self._check_descriptors()
        self._check_room(1)

    @contextmanager
    def admitted(self, sequences: int) -> Iterator[None]:
        """Raises `ApiError` (400, 503) at entry. Enter it once the request is complete: only then does it take room."""
        if 0 < self._limit < sequences:
            raise bad_request(
                f"got {sequences} sequences, which is prompts times n, allowed are {self._limit} "
                "(--max-num-queued-reqs); send several smaller requests",
                code="too_many_sequences",
            )
        self.check_open()
        self._check_room(sequences)
        self._counters.requests_in_flight += 1
        self._counters.sequences_in_flight += sequences
        try:
            yield
        finally:
            self._counters.requests_in_flight -= 1
            self._counters.sequences_in_flight -= sequences

    def _check_room(self, sequences: int) -> None:
        in_flight = self._counters.total_sequences()
        if self._limit and in_flight + sequences > self._limit:
            self._rejected()
            raise unavailable(
                f"too many sequences: got {sequences} more with {in_flight} in flight, allowed are {self._limit} "
                "at once; try again",
                "overloaded",
            )

    def _check_descriptors(self) -> None:
        places = self._places.count()
        most = places - places // KEPT
        if self._counters.requests_in_flight >= most:
            self._rejected()
            raise unavailable(
                f"too many requests: got one more with {most} in flight, and the rest of the {places} descriptors for "
                "connections is kept for short requests; try again, or raise `ulimit -n`",
                "overloaded",
            )
