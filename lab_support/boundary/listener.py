"""The launcher's side of `--accept`: it binds for clients, and gives each API server a socket to accept from.

shared, exclusive, least-loaded   one listening socket, held by the launcher and all API servers
handoff                           one listening socket that only the launcher holds, and a channel to each API server
reuseport                         a listening socket for each API server, which alone holds it

The API servers' side is in boundary/accept.py.
"""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol, Self

from lab_support.boundary.counters import Counters
from lab_support.boundary.handoff import Handoff
from lab_support.boundary.inheritance import AcceptSource
from lab_support.boundary.listen_socket import listening_socket
from lab_support.boundary.pokes import Pokes, needs_pokes
from lab_support.boundary.reuseport import ReuseportGroup, log
from lab_support.config import ServerConfig


class Listener(Protocol):
    """Made by the launcher, before anything heavy loads. A context manager."""

    bound: socket.socket  # to the address that clients know

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def open_for(self, slot: int) -> AcceptSource:
        """The source of connections for the API server that will own `slot`."""

    def close_our_copy(self, source: AcceptSource) -> None:
        """Close the launcher's copy of what only the API server should hold. Called once that has been started."""

    def retire(self, slot: int) -> None:
        """The API server that owns `slot` is about to be asked to take no more connections."""

    def on_ended(self, slot: int) -> None:
        """The API server that owned `slot` has ended."""

    @property
    def waitables(self) -> Sequence[socket.socket | int]:
        """The sockets that the launcher waits for; it calls `on_readable` once one is readable."""

    @property
    def due(self) -> float | None:
        """The time to call `on_due`, in time.monotonic() seconds."""

    def on_readable(self) -> None: ...

    def on_due(self) -> None: ...

    def stop(self) -> None:
        """Let nobody else in: the port is refused once the API servers have emptied its queue and closed it, too."""

    def close_after_fork(self) -> None:
        """Close everything. Called in an engine core made by fork, which must hold none of it."""


def make_listener(config: ServerConfig, counters: Counters) -> Listener:
    """For `--accept`. `counters` has a slot for every API server that may live at once. Raises `ConfigError`."""
    if config.accept == "handoff":
        return Handoff(config, counters)
    if config.accept == "reuseport":
        return ReuseportListener(config)
    return SharedListener(config, counters.slots)


class SharedListener:
    """One listening socket for everybody: its queue outlives any API server."""

    waitables: Sequence[socket.socket | int] = ()
    due: float | None = None

    def __init__(self, config: ServerConfig, slots: int) -> None:
        self._stack = ExitStack()
        self.bound = self._stack.enter_context(listening_socket(config))
        self._pokes = self._stack.enter_context(Pokes(slots)) if needs_pokes(config.accept) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open_for(self, slot: int) -> AcceptSource:
        return AcceptSource(self.bound, slot, self._pokes)

    def retire(self, slot: int) -> None:
        """Do nothing: its own acceptor looks after waiting connections."""

    def close_our_copy(self, source: AcceptSource) -> None:
        """Do nothing: the launcher keeps the socket for the next API server."""

    def on_ended(self, slot: int) -> None:
        """Poke all: it may have been woken for a connection that it did not take, and then nobody else was."""
        if self._pokes:
            self._pokes.poke_all()

    def on_readable(self) -> None:
        """Never called, because there is nothing to wait for."""

    on_due = on_readable

    def stop(self) -> None:
        self.bound.close()

    def close_after_fork(self) -> None:
        self.bound.close()
        if self._pokes:
            self._pokes.close()


class ReuseportListener:
    """A listening socket for each API server. Its queue ends with it."""

    waitables: Sequence[socket.socket | int] = ()
    due: float | None = None

    def __init__(self, config: ServerConfig) -> None:
        self._group = ReuseportGroup(config.host, config.port, config.backlog)
        self.bound = self._group.guard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._group.__exit__()

    def open_for(self, slot: int) -> AcceptSource:
        made = self._group.bind_another()
        try:
            guarded = self._group.is_guarded()
        except OSError:  # no descriptor left to try it with
            made.close()
            raise
        if not guarded:
            log.warning("this kernel lets other programs of this user bind the port too, and take connections")
        return AcceptSource(made, slot, None)

    def retire(self, slot: int) -> None:
        """Do nothing: its own acceptor looks after waiting connections."""

    def close_our_copy(self, source: AcceptSource) -> None:
        source.socket.close()

    def on_ended(self, slot: int) -> None:
        """Do nothing: the kernel has closed its socket."""

    def on_readable(self) -> None:
        """Never called, because there is nothing to wait for."""

    on_due = on_readable

    def stop(self) -> None:
        """Do nothing: each API server alone holds its socket. The guard goes on to keep strangers off the port."""

    def close_after_fork(self) -> None:
        self.bound.close()
