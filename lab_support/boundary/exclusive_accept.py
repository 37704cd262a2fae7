"""`--accept exclusive` and `least-loaded`: the kernel wakes one API server, which may call another instead."""

import asyncio
import select
from collections.abc import Callable

from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.listening_entry import ExclusiveEntry
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.openings import MakeProtocol, Openings
from lab_support.boundary.room import NoRoom, Room, accept, port_of

MOMENT = 0.001  # seconds that a better placed API server has to take a connection before it is poked again
PATIENCE = 5  # pokes; after them this API server takes the connection itself. Both figures are vLLM's


class ExclusiveAccept:
    """One wake-up, one connection, and then the back of the wait queue.

    `better_placed` returns the slot of the API server that should rather have the connection, or None for this one.
    That API server is poked, and takes the connection without being woken by the kernel. If it does not in time, this
    one does.

    An API server that was woken but can't take the connection, because it has no room or stops, pokes its siblings:
    the kernel has woken nobody else. If it is killed in between, the launcher pokes them.
    """

    def __init__(
        self,
        source: AcceptSource,
        connections: OpenConnections,
        better_placed: Callable[[], int | None],
    ) -> None:
        assert source.pokes is not None
        self._socket = source.socket
        self._slot = source.slot
        self._pokes = source.pokes
        self._connections = connections
        self._better_placed = better_placed
        self._pause: asyncio.TimerHandle | None = None  # set while it leaves a connection to a better placed one
        self._tries = 0

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        descriptor = self._socket.fileno()
        self._queue = select.poll()  # select(2) can't handle a descriptor above 1023
        self._queue.register(descriptor, select.POLLIN)
        self._room = Room(descriptor, self._connections, self._leave, self._return, port=port_of(self._socket))
        self._entry = ExclusiveEntry(self._loop, descriptor, self._on_readable)
        await self._entry.make()
        self._loop.add_reader(self._pokes.descriptor(self._slot), self._on_poke)
        self._connections.on_closed = self._on_closed
        self._connections.catch_up()
        self._connections.set_accepting(True)

    def stop(self) -> None:
        self._room.close()
        self._end_pause()
        self._connections.on_closed = lambda: None
        self._connections.set_accepting(False)
        self._loop.remove_reader(self._pokes.descriptor(self._slot))
        self._entry.close()
        self._socket.close()
        self._pokes.poke_all()  # the kernel may just have woken this one for a connection that it no longer takes

    def _on_readable(self) -> None:
        """The kernel has woken this one."""
        if self._room.is_shut:
            self._pokes.poke_others(self._slot)  # it was woken just as it left the wait queue
        elif self._pause is None:
            self._take_or_pass_on()

    def _on_poke(self) -> None:
        """A sibling has a connection for this one, or a sibling has died: see whether a client waits."""
        self._pokes.clear(self._slot)
        if self._room.is_shut:
            return
        if self._pause is None and self._anyone_waits():
            self._take_or_pass_on()
        else:
            self._reconsider()

    def _on_closed(self) -> None:
        self._room.on_closed()
        self._reconsider()

    def _take_or_pass_on(self) -> None:
        other = self._better_placed()
        if other is None:
            self._take_one()
        else:
            self._tries = PATIENCE
            self._pass_on_to(other)

    def _pass_on_to(self, other: int) -> None:
        """Leave the wait queue for a moment: the connection that waits would wake this one again at once."""
        self._pokes.poke(other)
        self._end_pause()
        self._entry.take_out()
        self._pause = self._loop.call_later(MOMENT, self._look_again)

    def _look_again(self) -> None:
        self._tries -= 1
        other = self._better_placed()
        if other is None or not self._anyone_waits():
            self._come_back()
        elif self._tries:
            self._pass_on_to(other)
        else:
            self._come_back()
            self._take_one()

    def _reconsider(self) -> None:
        """A count has changed: end the pause if this one should take the next connection after all."""
        if self._pause and self._better_placed() is None:
            self._come_back()

    def _end_pause(self) -> None:
        if self._pause:
            self._pause.cancel()
            self._pause = None

    def _come_back(self) -> None:
        if self._pause:
            self._end_pause()
            self._entry.put_in()

    def _leave(self) -> None:
        """There is no room. The kernel may have woken only this one for a connection that waits."""
        self._end_pause()
        self._entry.take_out()
        self._pokes.poke_others(self._slot)

    def _return(self) -> None:
        self._connections.catch_up()
        self._entry.put_in()

    def _anyone_waits(self) -> bool:
        return bool(self._queue.poll(0))

    def _take_one(self) -> None:
        if self._room.shut_if_full():
            return
        try:
            accepted = accept(self._socket)
        except NoRoom as why:
            self._room.run_out(str(why))
            return
        if accepted:  # otherwise a sibling was faster, or the client has gone
            self._entry.to_the_back()
            self._openings.add(accepted)
