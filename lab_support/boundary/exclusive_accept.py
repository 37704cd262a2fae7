"""`--accept exclusive` and `least-loaded`: the kernel wakes one API server for a connection, and it may pass it on."""

import asyncio
import select
from collections.abc import Callable

from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.listening_entry import ExclusiveEntry
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.openings import MakeProtocol, Openings
from lab_support.boundary.room import NoRoom, Room, accept, port_of

MOMENT = 0.001  # seconds that a better placed API server has to take a connection, before it is asked again, …
PATIENCE = 5  # … so often; then it is taken from it. vLLM's figures


class ExclusiveAccept:
    """One wake-up, one connection, and then the back of the wait queue.

    `better_placed` says whose connection this should rather be: the slot of an API server, or None for this one. That
    one is poked, and takes it without being woken by the kernel. Where it does not in time, this one does.

    Whoever leaves a connection lying for which the kernel has woken it pokes its siblings, because nobody else has been
    woken: one that has no room, or stops. For one that is killed in between, the launcher does it.
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
        self._pause: asyncio.TimerHandle | None = None  # while it stands back for a better placed one
        self._tries = 0

    async def start(self, make_protocol: MakeProtocol) -> None:
        self._openings = Openings(self._connections, make_protocol)
        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        descriptor = self._socket.fileno()
        self._queue = select.poll()  # select(2) knows no descriptor above 1023
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
        self._pokes.poke_all()  # the kernel may just have woken this one for a connection that it will not take now

    def _on_readable(self) -> None:
        """The kernel has woken this one."""
        if self._room.is_shut:
            self._pokes.poke_others(self._slot)  # it was woken in the moment in which it left
        elif self._pause is None:
            self._take_or_pass_on()

    def _on_poke(self) -> None:
        """A sibling has a connection for this one, or one of them has died: does anyone wait?"""
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
        """Out of the wait queue for a moment: what waits there would wake this one again at once."""
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
        """Something has changed: while standing back, is this one now to take the next?"""
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
        """There is no room. The kernel may have woken this one alone for what waits."""
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
