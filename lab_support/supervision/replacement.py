"""Replacing API servers: each after its death, and all of them one after another on SIGUSR1.

An API server has a *place*, 0 to --api-server-count - 1, which names it: api-0. It also has a *slot*, which belongs to
it as long as it lives (api_server_slots.py). Its successor in the same place takes the other of two slots if the first
is still in use. So two of them can live side by side, the old one finishing and the new one taking connections.

A failed replacement does not end the server: the others serve on, and it is tried again (restarts.py). If it should
have replaced a living one, on SIGUSR1, that one keeps the place. The server ends if API servers that had been ready die
more often than --api-server-restart-limit allows, or if none serves and none will.
"""

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lab_support.boundary.lifeline import ExitCode, ServerMustEnd, describe_exit
from lab_support.boundary.messages import ApiServerJoined, ApiServerLeft, FromLauncher, Retire
from lab_support.boundary.start_method import RETIRING
from lab_support.config import ConfigError, ServerConfig
from lab_support.supervision.api_server_slots import ApiServerSlots, ChannelAddresses
from lab_support.supervision.children import Children
from lab_support.supervision.restarts import WINDOW, Restarts
from lab_support.supervision.vllm_rs import accepts

log = logging.getLogger("lab.launcher")

LOOK = 0.02  # seconds between two looks at a front end that does not say when it is ready
READY_WITHIN = 60.0  # seconds that a replacement has; it loads no model


@dataclass
class _ApiServer:
    """An API server that lives."""

    slot: int
    channels: ChannelAddresses
    deadline: float  # by which it has to be ready
    ready: bool = False
    told_to_retire: bool = False
    in_roll: bool = False  # started on SIGUSR1, to replace a living one
    cause: str = ""  # the reason that it gave for its end


class ApiServers:
    """The API servers of one launcher, from their start to their ends. Called by its main thread only."""

    def __init__(
        self, config: ServerConfig, children: Children, slots: ApiServerSlots, before_replacing: Callable[[], None]
    ) -> None:
        """before_replacing: restores the files that a new one will need; raises `OSError` if it can't."""
        self._config = config
        self._children = children
        self._slots = slots
        self._before_replacing = before_replacing
        self._living: dict[str, _ApiServer] = {}
        self._restarts = Restarts(config.api_server_restart_limit)
        self._ready_within = min(READY_WITHIN, config.ready_timeout)
        self._to_start: dict[int, float] = {}  # the time to start the next one, by place
        self._to_roll: deque[int] = deque()  # places whose API server is still to be replaced, the current one first
        self.serving = False  # set once all processes have been ready

    def start_all(self) -> None:
        for place in range(self._config.api_server_count):
            self._start(place, place)

    # ---- deadlines --------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float | None:
        """The time to call `on_due`."""
        due = [*self._to_start.values(), *(server.deadline for _, server in self._awaited())]
        if self.next_look is not None:
            due.append(self.next_look)
        return min(due, default=None)

    @property
    def next_look(self) -> float | None:
        """The time to look whether a front end accepts that does not say so; None if there is none."""
        return time.monotonic() + LOOK if self._silent() else None

    def found_ready(self) -> list[str]:
        """Those that accept connections now, and could not say so."""
        silent = self._silent()
        if not silent:  # always so with our own API servers, and this is asked after every event
            return []
        inode, pids = os.fstat(self._slots.listener.bound.fileno()).st_ino, self._children.pids
        return [name for name in silent if accepts(pids[name], inode)]

    def _silent(self) -> list[str]:
        if not self._config.uses_vllm_rs:
            return []
        return [name for name, server in self._living.items() if not server.ready]

    def on_due(self) -> None:
        """Start the API servers that are due; kill those that are not ready in time. Raises `ServerMustEnd`."""
        now = time.monotonic()
        for name, server in self._awaited():
            if server.deadline <= now:
                server.cause = f"it was not ready within {self._ready_within:g} s"
                server.deadline = now + self._ready_within
                self._children.send_signal(name, signal.SIGKILL)
        for place in [place for place, at in self._to_start.items() if at <= now]:
            del self._to_start[place]
            self._start_instead(place)

    def _awaited(self) -> list[tuple[str, _ApiServer]]:
        """Replacements that are not ready yet; none before `serving`, while the launcher waits for all processes."""
        return [(name, server) for name, server in self._living.items() if self.serving and not server.ready]

    def _start_instead(self, place: int) -> None:
        """Start an API server in place of one that has ended."""
        try:
            self._start_further(place)
        except (OSError, ConfigError) as error:
            self._try_again(place, ExitCode.FAILED, f"api-{place} can't be started: {in_words(error)}")

    # ---- events -----------------------------------------------------------------------------------------------------

    def on_ready(self, name: str) -> None:
        """An API server takes connections. If it replaces another, that one can go."""
        server = self._living[name]
        server.ready = True
        place = _place(name)
        self._restarts.succeeded(place)
        if not self.serving:
            return
        server.channels.unlink()  # every engine core is connected to it
        if name + RETIRING in self._living:
            self._retire(name)
        elif self._to_roll and self._to_roll[0] == place:
            if server.in_roll:  # the one that it replaces has died
                self._to_roll.popleft()
            self._roll_next()

    def _retire(self, name: str) -> None:
        before = self._living[name + RETIRING]
        if not before.told_to_retire:
            log.info("%s: the new one is ready, the old one finishes what it has", name)
            self._slots.listener.retire(before.slot)
            before.told_to_retire = True
            if self._config.uses_vllm_rs:
                self._children.send_signal(name + RETIRING, signal.SIGTERM)  # it finishes what it has, and ends
            else:
                self._children.tell(name + RETIRING, Retire())

    def on_fatal(self, name: str, cause: str) -> None:
        """Record the reason that an API server gives for its end. The launcher acts on it only at that end."""
        self._living[name].cause = cause

    def on_exit(self, name: str, code: int) -> None:
        """One has ended and has been waited for. Raises `ServerMustEnd` if the server can't go on without it."""
        server = self._living.pop(name)
        self._slots.clear(server.slot)
        self._tell_engine_cores(ApiServerLeft(server.slot))
        server.channels.unlink()
        told = f"{name} failed: {server.cause}" if server.cause else f"{name} {describe_exit(code)}"
        place = _place(name)
        if server.told_to_retire:
            self._on_retired(place, code, told)
        elif server.ready:
            self._on_death(place, told)
        else:
            self._on_not_ready(place, code, told)

    def _on_retired(self, place: int, code: int, told: str) -> None:
        if code != ExitCode.STOPPED:
            log.warning("%s, after it had been replaced", told)
        if self._to_roll and self._to_roll[0] == place:
            self._to_roll.popleft()
            self._roll_next()

    def _on_death(self, place: int, told: str) -> None:
        """One that had been ready has ended without being asked to."""
        if not self.serving or not self._config.restart_api_servers:
            raise ServerMustEnd(ExitCode.FAILED, f"{told}, so the server ends")
        now = time.monotonic()
        at = self._restarts.died(place, now)
        if at is None:
            raise ServerMustEnd(ExitCode.FAILED, f"{told}; {self._over_the_limit()}")
        if f"api-{place}" in self._living:
            log.warning("%s; its replacement is already starting", told)
            return
        self._to_start[place] = at
        log.warning("%s; a new one starts in %.2f s", told, at - now)

    def _on_not_ready(self, place: int, code: int, told: str) -> None:
        before = self._living.get(f"api-{place}{RETIRING}")
        if not self.serving:
            raise ServerMustEnd(ExitCode.FAILED, f"{told}, so the server ends")
        if before and not before.told_to_retire:
            self._give_back(place, told)
        else:
            self._try_again(place, code, told)

    def _try_again(self, place: int, code: int, told: str) -> None:
        """Schedule another try after a replacement that did not become ready. Raises `ServerMustEnd` if none serves and
        none will."""
        now = time.monotonic()
        others = self._others_serve()
        at = self._restarts.failed(place, now) if others else self._last_hope(place, code, told, now)
        self._to_start[place] = at
        log.error("%s; %s, next try in %.2f s", told, "the others serve on" if others else "none serves", at - now)
        if self._to_roll and self._to_roll[0] == place:
            self._roll_next()  # the next one in this place will be new anyway

    def _last_hope(self, place: int, code: int, told: str, now: float) -> float:
        """The time of the next try if none serves, as after a death. Raises `ServerMustEnd` if that can't succeed."""
        if code == ExitCode.REFUSED:
            raise ServerMustEnd(code, f"{told}; another one would be refused too, and none serves, so the server ends")
        at = self._restarts.died(place, now)
        if at is None:
            raise ServerMustEnd(ExitCode.FAILED, f"{told}; none serves, and {self._over_the_limit()}")
        return at

    def _others_serve(self) -> bool:
        return any(server.ready and not server.told_to_retire for server in self._living.values())

    def _over_the_limit(self) -> str:
        limit = self._restarts.limit
        return f"that is more than --api-server-restart-limit {limit} within {WINDOW:g} s, so the server ends"

    # ---- SIGUSR1 ----------------------------------------------------------------------------------------------------

    def rolling_restart(self) -> None:
        """Replace all, one after another."""
        if self._to_roll or not self.serving:
            log.warning("SIGUSR1: %s; ask again later", "already replacing" if self.serving else "not ready yet")
            return
        log.info("SIGUSR1: the API servers are replaced one after another")
        self._to_roll.extend(range(self._config.api_server_count))
        self._roll_next()

    def _roll_next(self) -> None:
        """Start the next replacement of the rolling restart, beside the one that it replaces."""
        while self._to_roll:
            place = self._to_roll[0]
            server = self._living.get(f"api-{place}")
            if server is None:
                self._to_roll.popleft()  # it has ended, and will be replaced anyway
                continue
            if server.ready:  # otherwise `on_ready` calls this again, or its end does
                self._start_beside(place)
            return
        log.info("all API servers have been replaced")

    def _start_beside(self, place: int) -> None:
        name = f"api-{place}"
        self._rename(name, name + RETIRING)
        try:
            self._start_further(place)
            self._living[name].in_roll = True
        except (OSError, ConfigError) as error:
            self._give_back(place, f"{name} can't be started: {in_words(error)}")

    def _give_back(self, place: int, told: str) -> None:
        """The new one has failed: the old one, which was told nothing, goes on."""
        log.error("%s, while it was replacing another; the old one goes on, and SIGUSR1 may be sent again", told)
        self._rename(f"api-{place}{RETIRING}", f"api-{place}")
        self._to_roll.clear()

    def _rename(self, old: str, new: str) -> None:
        self._children.rename(old, new)
        self._living[new] = self._living.pop(old)

    # ---- starting ---------------------------------------------------------------------------------------------------

    def _start_further(self, place: int) -> None:
        """Start one after the first ones. Raises `OSError` or `ConfigError` if there is no room, and then leaves
        nothing behind."""
        slot = self._slots.free(place, {server.slot for server in self._living.values()})
        self._before_replacing()
        channels = self._start(place, slot)
        self._tell_engine_cores(ApiServerJoined(slot, channels.inputs, channels.outputs))

    def _start(self, place: int, slot: int) -> ChannelAddresses:
        channels = self._slots.start(place, slot)
        self._living[f"api-{place}"] = _ApiServer(slot, channels, time.monotonic() + self._ready_within)
        return channels

    def _tell_engine_cores(self, message: FromLauncher) -> None:
        for name in self._children.running:
            if name.startswith("engine-"):
                self._children.tell(name, message)


def in_words(error: Exception) -> str:
    """The operating system's message, or our own."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _place(name: str) -> int:
    return int(name.removeprefix("api-").removesuffix(RETIRING))
