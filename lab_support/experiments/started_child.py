"""Starts children that import a given module and wait; measures how long that takes and how much memory they have.

Runs in the parent, except `live`. It imports little, and only from the standard library, because a spawned child
imports the same, and the cost would be taken for the start method's own.
"""

import importlib
import multiprocessing
import os
import re
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

SPAWN, FORKSERVER, PRELOAD, FORK = "spawn", "forkserver", "forkserver, preloaded", "fork"
METHODS = (SPAWN, FORKSERVER, PRELOAD, FORK)
"""fork last: it makes the parent import the module, and from then on the parent has it."""

_PATIENCE = 120.0


def compare(
    counts: Sequence[int], repeats: int, module: str = "", methods: Sequence[str] = METHODS
) -> Iterator[dict[str, Any]]:
    """Start `counts` children by each method, `repeats` times; a sample each time, as `start_children` returns it.

    module: the children's import, such as "torch"; "" for none. Before that each method starts one child that is
    not counted: its sample has first=True, and its `ms` include costs that are paid once (a resource tracker, a fork
    server, an import in the fork server or in the parent).
    """
    for method in methods:
        yield {**_prepared(method, module if method in (PRELOAD, FORK) else ""), "first": True}
        for count in counts:
            for _ in range(repeats):
                yield {**start_children(method, count, module), "first": False}
        stop_fork_server()


def _prepared(method: str, module: str) -> dict[str, Any]:
    began = time.monotonic()
    stop_fork_server()
    if method == PRELOAD:
        forkserver.set_forkserver_preload([__name__, *([module] if module else [])])
    if method == FORK and module:
        importlib.import_module(module)
    sample = start_children(method, 1, module)
    return {**sample, "ms": _ms(time.monotonic() - began)}


def start_children(method: str, count: int, module: str = "") -> dict[str, Any]:
    """Start `count` children, wait until all are ready, read their memory, and end them.

    Returns milliseconds since before the first `start()`: `ms` until the last child was ready, `ms_to_code` until the
    median child reached our first line, `ms_in_start` within `start()` itself; and bytes for each child: `rss`,
    `pss`, `uss`, empty if /proc has no smaps_rollup.
    """
    context = multiprocessing.get_context(FORKSERVER if method == PRELOAD else method)
    began = time.monotonic()
    children = [_start(context, module) for _ in range(count)]
    started = time.monotonic()
    marks = [_ready(ours) for _, ours in children]
    memory = [memory_of(process.pid or 0) for process, _ in children]
    for process, ours in children:
        ours.send("end")  # EOF would not reach it, because siblings forked later hold a copy of this end
        process.join()
        ours.close()
    return {
        "method": method,
        "count": count,
        "module": module,
        "ms": _ms(max(ready for _, ready in marks) - began),
        "ms_to_code": _ms(sorted(code for code, _ in marks)[count // 2] - began),
        "ms_in_start": _ms(started - began),
        **{name: [each[name] for each in memory if each] for name in ("rss", "pss", "uss")},
    }


def _start(context: Any, module: str) -> tuple[BaseProcess, Connection]:
    ours, theirs = context.Pipe()
    process = context.Process(target=live, args=(theirs, module))
    process.start()
    theirs.close()
    return process, ours


def live(parent: Connection, module: str) -> None:
    """Runs in the child: report when it began and when it has imported `module`, and stay until told to end."""
    code = time.monotonic()
    if module:
        importlib.import_module(module)
    parent.send((code, time.monotonic()))
    parent.recv()
    os._exit(0)  # without the interpreter's finalisation, which with torch takes longer than all the rest


def _ready(ours: Connection) -> tuple[float, float]:
    if not ours.poll(_PATIENCE):
        raise TimeoutError(f"got no word from a child for {_PATIENCE:g} s, expected it to be ready")
    return ours.recv()


def memory_of(pid: int) -> dict[str, int]:
    """Bytes by /proc/PID/smaps_rollup: `rss`, `pss`, `uss`; empty if the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            sizes = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB", file.read(), re.M)}
    except OSError:
        return {}
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "uss": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def stop_fork_server() -> None:
    """Stop the fork server, if it runs, so that the next one starts afresh. A private API of Python 3.11 to 3.14."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    forkserver.set_forkserver_preload([])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
