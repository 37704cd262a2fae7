"""Who takes the place of an API server that ends, and when: after a death, and one after another on SIGUSR1.

An API server has a *place*, 0 to --api-server-count - 1, which names it: api-0. It also has a *slot*, which is its
own as long as it lives: its counters, its channels to the engine cores, and the number by which these know it. The
one that follows in the same place takes the other one of two slots if the first is still in use. So two of them can
live side by side, the old one finishing and the new one taking connections.

After a death the new one starts at once, after a second one within a minute a little later, and so on. One death too
many ends the server, with the cause: an API server that can't live would come and die for ever.
"""

import logging
import time
from collections import deque
from collections.abc import Callable

from lab_support.boundary.children import Children
from lab_support.boundary.counters import Counters
from lab_support.boundary.entrances import Entrances
from lab_support.boundary.inheritance import ApiServerInheritance, ChannelListeners, endpoint
from lab_support.boundary.lifeline import ExitCode, describe_exit
from lab_support.boundary.messages import ApiServerJoined, ApiServerLeft, FromLauncher, Retire
from lab_support.boundary.metric_files import clear_gauges
from lab_support.boundary.start_method import RETIRING
from lab_support.boundary.start_rule import Choice
from lab_support.config import ServerConfig

log = logging.getLogger("lab.launcher")

MODULE = "lab_support.processes.api_server"
WINDOW = 60.0  # seconds within which deaths count together
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds before the second replacement, doubled for each further one


class GivenUp(Exception):
    """An API server ended that will not be replaced. `code` is what the launcher should exit with."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Restarts:
    """How often API servers have died, and so when the next one may start. Times are time.monotonic() seconds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._deaths: dict[int, list[float]] = {}

    def died(self, place: int, now: float) -> float | None:
        """When to start the next one in this place; None: never again."""
        recent = [at for at in self._deaths.get(place, []) if now - at < WINDOW] + [now]
        self._deaths[place] = recent
        if len(recent) > self.limit:
            return None
        if len(recent) == 1:
            return now
        return now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (len(recent) - 2))


class ApiServers:
    """The API servers of one launcher, from their start to their ends. Called by its main thread only."""

    def __init__(
        self,
        config: ServerConfig,
        children: Children,
        entrances: Entrances,
        listeners: ChannelListeners,
        counters: Counters,
        run_id: str,
        metrics_directory: str,
        unlink_sockets: Callable[[], None],
        engine_cores_started_by: Choice,
    ) -> None:
        self._config = config
        self._children = children
        self._entrances = entrances
        self._listeners = listeners
        self._counters = counters
        self._run_id = run_id
        self._metrics_directory = metrics_directory
        self._unlink_sockets = unlink_sockets
        self._engine_cores_started_by = engine_cores_started_by
        self._slots: dict[str, int] = {}  # by name, of those that live
        self._restarts = Restarts(config.api_server_restart_limit)
        self._to_start: dict[int, float] = {}  # place: when
        self._told_to_retire: set[str] = set()
        self._to_roll: deque[int] = deque()  # places whose API server is still to be replaced, the current one first
        self._causes: dict[str, str] = {}  # what an API server that is about to end has said of it, by name
        self.serving = False  # everyone was ready once

    def start_all(self) -> None:
        for place in range(self._config.api_server_count):
            self._start(place, place)

    @property
    def due(self) -> float | None:
        """When `on_due` is to be called."""
        return min(self._to_start.values(), default=None)

    def on_due(self) -> None:
        """Start whoever is to start by now."""
        for place, at in list(self._to_start.items()):
            if at <= time.monotonic():
                del self._to_start[place]
                self._start_further(place)

    def on_ready(self, name: str) -> None:
        """An API server takes connections. If another has had its place, that one can go."""
        if not self.serving:
            return
        self._unlink_sockets()
        before = name + RETIRING
        if before in self._slots:
            log.info("%s: the new one is ready, the old one finishes what it has", name)
            self._entrances.retire(self._slots[before])
            self._told_to_retire.add(before)
            self._children.tell(before, Retire())

    def on_fatal(self, name: str, cause: str) -> None:
        """An API server says why it is about to end. What follows from it is decided at its end."""
        self._causes[name] = cause

    def on_exit(self, name: str, code: int) -> None:
        """One has ended and has been waited for. Raises `GivenUp` where the server can't go on without it."""
        slot = self._slots.pop(name)
        self._told_to_retire.discard(name)
        self._counters.clear(slot)
        clear_gauges(self._metrics_directory, slot)
        self._entrances.gone(slot)
        self._tell_engine_cores(ApiServerLeft(slot))
        cause = self._causes.pop(name, None)
        told = f"{name} failed: {cause}" if cause else f"{name} {describe_exit(code)}"
        place = int(name.removeprefix("api-").removesuffix(RETIRING))
        if name.endswith(RETIRING):
            self._on_retired(place, code, told)
        elif name + RETIRING in self._slots and name + RETIRING not in self._told_to_retire:
            self._on_replacement_failed(name, told)
        else:
            self._replace(place, code, told)

    def roll(self) -> None:
        """SIGUSR1: replace all, one after another."""
        if self._to_roll or not self.serving:
            log.warning("SIGUSR1: %s; ask again later", "already replacing" if self.serving else "not ready yet")
            return
        log.info("SIGUSR1: the API servers are replaced one after another")
        self._to_roll.extend(range(self._config.api_server_count))
        self._roll_next()

    def _roll_next(self) -> None:
        """Start the next in the roll beside the one that it is to replace."""
        while self._to_roll:
            name = f"api-{self._to_roll[0]}"
            if name in self._slots:
                self._rename(name, name + RETIRING)
                self._start_further(self._to_roll[0])
                return
            self._to_roll.popleft()  # it has just died, and a new one comes anyway
        log.info("all API servers have been replaced")

    def _on_retired(self, place: int, code: int, told: str) -> None:
        if code != ExitCode.STOPPED:
            log.warning("%s, after it had been replaced", told)
        if self._to_roll and self._to_roll[0] == place:
            self._to_roll.popleft()
            self._roll_next()

    def _on_replacement_failed(self, name: str, told: str) -> None:
        """The new one died before it was ready: the old one, which knows of nothing, goes on."""
        log.error("%s, while it was to replace another; the old one goes on", told)
        self._rename(name + RETIRING, name)
        self._to_roll.clear()

    def _replace(self, place: int, code: int, told: str) -> None:
        if not self.serving or not self._config.restart_api_servers:
            raise GivenUp(ExitCode.FAILED, f"{told}, so the server ends")
        if code == ExitCode.REFUSED:
            raise GivenUp(ExitCode.REFUSED, f"{told}; another one would be refused too, so the server ends")
        at = self._restarts.died(place, time.monotonic())
        if at is None:
            limit = self._restarts.limit
            raise GivenUp(
                ExitCode.FAILED,
                f"{told}; that is more than --api-server-restart-limit {limit} within {WINDOW:g} s, so the server ends",
            )
        self._to_start[place] = at
        log.warning("%s; a new one starts in %.2f s", told, max(0.0, at - time.monotonic()))

    def _start_further(self, place: int) -> None:
        count = self._config.api_server_count
        slot = next(slot for slot in (place, place + count) if slot not in self._slots.values())
        inputs, outputs = self._start(place, slot)
        self._tell_engine_cores(ApiServerJoined(slot, inputs, outputs))

    def _start(self, place: int, slot: int) -> tuple[str, str]:
        """Start one; where its two channels listen."""
        inputs, outputs = self._listeners.of(slot)
        entrance = self._entrances.open_for(slot)
        endpoints = endpoint(inputs), endpoint(outputs)
        given = ApiServerInheritance(
            place,
            self._run_id,
            self._metrics_directory,
            entrance,
            inputs,
            outputs,
            self._counters,
            self._engine_cores_started_by,
        )
        name = f"api-{place}"
        self._slots[name] = slot
        with inputs, outputs:
            self._children.start("spawn", name, MODULE, self._config, given)
        self._entrances.given(entrance)
        return endpoints

    def _rename(self, old: str, new: str) -> None:
        self._children.rename(old, new)
        self._slots[new] = self._slots.pop(old)
        if old in self._causes:
            self._causes[new] = self._causes.pop(old)

    def _tell_engine_cores(self, message: FromLauncher) -> None:
        for name in self._children.running:
            if name.startswith("engine-"):
                self._children.tell(name, message)
