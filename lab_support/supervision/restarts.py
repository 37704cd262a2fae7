"""The time at which the next API server may start after one has ended, if there is a next one.

Two kinds of end. An API server that had been ready died: something kills API servers, and each place is restarted at
most --api-server-restart-limit times a minute. Or a replacement did not become ready: it could not be started, died
early, was refused, missed its deadline. While others serve, that harms nobody, so it is tried again, with growing
pauses. If none serves, it counts as a death.
"""

from collections import Counter

WINDOW = 60.0  # seconds within which deaths count together
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds before the second replacement, doubled for each further one


class Restarts:
    """Deaths and failures in each place. Times are time.monotonic() seconds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._deaths: dict[int, list[float]] = {}
        self._failures: Counter[int] = Counter()  # in a row

    def died(self, place: int, now: float) -> float | None:
        """The time to start the next one in this place; None: never again."""
        recent = [at for at in self._deaths.get(place, []) if now - at < WINDOW] + [now]
        self._deaths[place] = recent
        if len(recent) > self.limit:
            return None
        if len(recent) == 1:
            return now
        return now + _pause(len(recent) - 1)

    def failed(self, place: int, now: float) -> float:
        """The time of the next try, after one that did not become ready while others serve."""
        self._failures[place] += 1
        return now + _pause(self._failures[place])

    def succeeded(self, place: int) -> None:
        """One is ready: forget its place's failures, but not its deaths."""
        self._failures[place] = 0


def _pause(number: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(number - 1, 16))
