"""How many connections an API server has open. A count that returns to zero, whatever way each of them ends."""

from collections.abc import Callable
from operator import itemgetter

from lab_support.boundary.counters import TAKES_NONE, Counters
from lab_support.boundary.waiting_clients import Waiting


class OpenConnections:
    """Those of this API server; its siblings see their number as long as it takes new ones."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._accepting = False
        self._open: set[object] = set()
        self.on_closed: Callable[[], None] = lambda: None
        # Ends some that ask for nothing, for those that wait; None: nobody can tell how many these are.
        self.make_room: Callable[[Waiting | None], None] = lambda waiting: None

    @property
    def count(self) -> int:
        return len(self._open)

    def set_accepting(self, accepting: bool) -> None:
        self._accepting = accepting
        self._publish()

    def catch_up(self) -> None:
        """One that comes late, or was away, is not to make up for what it has missed."""
        self._counters.accepted = max(self._counters.accepted_by_slot())

    def opened(self) -> Callable[[], None]:
        """One more. Returned is what says that it has ended; the first call counts, however many there are.

        A connection may end in its protocol, or on its way to one, and at times both say so.
        """
        connection = object()
        self._open.add(connection)
        self._counters.accepted += 1
        self._publish()
        return lambda: self._closed(connection)

    def lost(self) -> None:
        """One that was passed to this API server never arrived."""
        self._counters.accepted += 1

    def _closed(self, connection: object) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._publish()
            self.on_closed()

    def least_loaded(self) -> int | None:
        """The slot of the API server with the fewest connections; None where this is the one.

        Among several, the one that has taken fewest so far: in a burst of connections that end at once all have none
        open most of the time, and whoever runs first would take them all.
        """
        everybody = zip(self._counters.connections_by_slot(), self._counters.accepted_by_slot(), strict=True)
        slot, least = min(enumerate(everybody), key=itemgetter(1))
        return slot if least < (self.count, self._counters.accepted) else None

    def _publish(self) -> None:
        self._counters.connections = self.count if self._accepting else TAKES_NONE
