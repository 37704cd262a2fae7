"""What the reader's server does, step by step: each trial starts it, asks it as eight clients, and looks at processes.

Runs in a process of a check's own. A trial returns plain data for `emit`.
"""

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from lab_support.instruments import proc
from lab_support.instruments.kernel import wait_until_asleep
from lab_support.notebook.stages.trial_client import Client
from lab_support.notebook.stages.tried_server import STILL, TriedServer

CLIENTS, TOKENS, MANY_TOKENS, LONG, ENDLESS = 8, 6, 64, 1500, 4000
FEW_STEPS = 1000


def step_1(path: str) -> dict[str, Any]:
    """A blocking loop: does each client get its own tokens?"""
    with TriedServer(path) as server:
        return {"ready": server.await_ready(), **_asked(server), "rows": max(server.rows, default=0)}


def step_2(path: str) -> dict[str, Any]:
    """API servers and an engine core: also, who holds the listening socket?"""
    with TriedServer(path) as server:
        ready = server.await_ready()
        server.await_acceptors()
        holders = {holder.process.pid for holder in proc.holders_of_listening_socket(server.port, server.pids.values())}
        children = {name: pid for name, pid in server.pids.items() if name != "launcher"}
        elsewhere = set(server.acceptors()) - holders
        return {
            "ready": ready,
            "processes": list(server.pids),
            "holders": sorted(name for name, pid in children.items() if pid in holders),
            "elsewhere": sorted(name for name, pid in children.items() if pid in elsewhere),
            **_asked(server),
        }


def step_3(path: str) -> dict[str, Any]:
    """READY: when, and what if a process dies first?"""
    with TriedServer(path, held=True) as server:
        _tell("the engine core is held while it loads")
        held = bool(server.await_hold())
        too_early = server.has_said_ready()
        server.release()
        first = {"held": held, "too_early": too_early, "ready": server.await_ready(), "deaths": {}, **_asked(server)}
    if too_early or not first["ready"]:
        return first
    return first | {"deaths": _until_one_is_missed(("engine-0", "api-"), lambda name: death_while_starting(path, name))}


def _until_one_is_missed(names: Iterable[str], trial: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The trials by name; after one that has left processes, the others tell nothing new and take long."""
    found: dict[str, Any] = {}
    for name in names:
        found[name] = trial(name)
        if not found[name]["ended"]:
            break
    return found


def death_while_starting(path: str, name: str) -> dict[str, Any]:
    """The engine core loads; then it dies, or an API server does."""
    with TriedServer(path, held=True) as server:
        engine = server.await_hold()
        victim = engine if name == "engine-0" else next(iter(server.acceptors()), 0)
        if victim:
            _tell(f"{name if name == 'engine-0' else 'an API server'} is killed while the engine core loads")
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        ended = server.await_end()
        return {"ended": ended, "named": name in server.said, "left": sorted(server.left().values())}


def step_4(path: str) -> dict[str, Any]:
    """A batch: all ask while the engine core is stopped; then, whose first token waits for whose last?"""
    with TriedServer(path) as server:
        ready = server.await_ready()
        with server.stopped("engine-0"):
            _tell(f"{CLIENTS} clients ask while the engine core is stopped, and then it goes on")
            clients = server.ask(CLIENTS, MANY_TOKENS)
        server.await_answers(clients)
        firsts, lasts = ([client.times[at] for client in clients if client.times] for at in (0, -1))
        engine = [pid for name, pid in server.pids.items() if name == "engine-0"]
        return {
            "ready": ready,
            **_summary(clients),
            "begun": sum(first < min(lasts) for first in firsts),
            "rows": max(server.rows, default=0),
            "steps": len(server.rows),
            "sleeps": wait_until_asleep(engine, STILL),
        }


def step_5(path: str) -> dict[str, Any]:
    """A client hangs up; then each role is killed while eight answers are under way."""
    with TriedServer(path) as server:
        ready = server.await_ready()
        steps = _steps_after_hang_up(server)
        first = {"ready": ready, "steps_after_hang_up": steps, "deaths": {}}
        if steps > FEW_STEPS or not ready:
            return first
        first |= _asked(server)
    return first | {"deaths": _until_one_is_missed(("launcher", "engine-0", "api-1"), lambda role: death(path, role))}


def _steps_after_hang_up(server: TriedServer) -> int:
    """The steps that the row of a client goes on after it has hung up."""
    clients = server.ask(1, ENDLESS)
    server.await_first_tokens(clients)
    before = len(server.rows)
    _tell("a client hangs up in the middle of its answer")
    clients[0].hang_up()
    server.await_idle(before + FEW_STEPS)
    return len(server.rows) - before


def death(path: str, role: str) -> dict[str, Any]:
    """SIGKILL to one process while eight answers are under way: does every other one end, and is the dead one named?"""
    with TriedServer(path) as server:
        server.await_ready()
        server.await_first_tokens(server.ask(CLIENTS, LONG))
        server.meet()
        if role in server.pids:
            _tell(f"{role} is killed while {CLIENTS} answers are under way")
            with suppress(ProcessLookupError):  # a server that is wrong may have ended by itself
                os.kill(server.pids[role], signal.SIGKILL)
        ended = server.await_end()
        return {"ended": ended, "named": role in server.said, "left": sorted(server.left().values())}


def survival(path: str) -> dict[str, Any]:
    """An API server is killed, and then its successor: do clients get their tokens? Then the engine core is killed.

    replaced: how many of the two deaths were made good. over: where one was not, whether the server has ended, too.
    ended, named, left: after the engine core's death.
    """
    with TriedServer(path) as server:
        found: dict[str, Any] = {"ready": server.await_ready(), "replaced": 0, "own": 0}
        victim = server.pids.get("api-1", 0)
        for _ in range(2):
            successor = _successor_of(victim, server)
            if not successor:
                return found | {"over": server.await_end()}
            found["replaced"] += 1
            found |= _asked(server)
            victim = successor
        _tell("the engine core is killed")
        server.meet()
        os.kill(server.pids["engine-0"], signal.SIGKILL)
        ended = server.await_end()
        return found | {
            "ended": ended,
            "named": "engine-0" in server.said,
            "left": sorted(server.left().values()),
        }


def _successor_of(victim: int, server: TriedServer) -> int:
    """Kills an API server. Returns the pid of another one that then holds the listening socket; 0 if none comes."""
    before = server.acceptors()
    if victim not in before:
        return 0
    _tell("an API server is killed")
    server.meet()
    os.kill(victim, signal.SIGKILL)
    server.await_others(victim)
    return next((pid for pid in server.acceptors() if pid not in before), 0)


def _tell(words: str) -> None:
    """A line for the reader, because a trial takes some seconds."""
    print(f"the check: {words}", flush=True)


def _asked(server: TriedServer) -> dict[str, Any]:
    _tell(f"{CLIENTS} clients ask at once")
    clients = server.ask(CLIENTS, TOKENS) if server.pids else []
    server.await_answers(clients)
    return _summary(clients)


def _summary(clients: list[Client]) -> dict[str, Any]:
    return {
        "own": sum(client.own and client.ended for client in clients),
        "all_tokens": sum(client.own for client in clients),
        "ended": sum(client.ended for client in clients),
        "some": sum(bool(client.tokens) for client in clients),
        "repeats": sum(client.repeats for client in clients),
        "empty": sum(client.empty > 0 for client in clients),
        "alike": len(clients) > 1 and bool(clients[0].tokens) and len({tuple(each.tokens) for each in clients}) == 1,
    }
