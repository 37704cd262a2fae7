"""The number of connections that an API server has open. It returns to zero, however each connection ends."""

from collections.abc import Callable
from operator import itemgetter

from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.waiting_clients import Waiting


class OpenConnections:
    """The open connections of this API server. Its siblings see their number while it takes new ones."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._accepting = False
        self._open: set[object] = set()
        self.on_closed: Callable[[], None] = lambda: None
        # Closes idle connections to make room for the clients that wait; None: their number is unknown.
        self.make_room: Callable[[Waiting | None], None] = lambda waiting: None

    @property
    def count(self) -> int:
        return len(self._open)

    def set_accepting(self, accepting: bool) -> None:
        self._accepting = accepting
        self._publish()

    def catch_up(self) -> None:
        """Start at the highest count, so that an API server that is new or was full is not sent every connection."""
        self._counters.accepted = max(self._counters.accepted_by_slot())

    def opened(self) -> Callable[[], None]:
        """Count one more, and return the function to call when it has ended; only its first call counts.

        A connection may end in its protocol or on its way to one, and sometimes both report it.
        """
        connection = object()
        self._open.add(connection)
        self._counters.accepted += 1
        self._publish()
        return lambda: self._closed(connection)

    def lost(self) -> None:
        """Count as taken a connection that was passed to this API server but never arrived."""
        self._counters.accepted += 1

    def _closed(self, connection: object) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._publish()
            self.on_closed()

    def least_loaded(self) -> int | None:
        """The slot of the API server with the fewest connections; None if it is this one.

        Among several, the one that has taken the fewest so far: in a burst of short connections all API servers have
        none open most of the time, and the first to run would take them all.
        """
        everybody = zip(self._counters.connections_by_slot(), self._counters.accepted_by_slot(), strict=True)
        slot, least = min(enumerate(everybody), key=itemgetter(1))
        return slot if least < (self.count, self._counters.accepted) else None

    def _publish(self) -> None:
        self._counters.connections = self.count if self._accepting else TAKES_NONE
