"""Families of processes that nobody but their own parent looks after, for cells that kill the parent.

`lab.live_server` would hide what its processes do by themselves, because its supervisor ends them once the launcher is
gone. Here each family is a dict of pids by role, the parent first, under "launcher".
"""

import json
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from lab_support.api_key import VARIABLES
from lab_support.instruments import fdinfo, proc

Family = Mapping[str, int]
_READY_SECONDS = 60.0


def server() -> dict[str, int]:
    """Start a server with two API servers, and wait until it is ready. Raises `RuntimeError` if it ends instead."""
    reads, writes = os.pipe()
    command = [sys.executable, "-m", "lab_support", "serve", "--port", "0", "--ready-fd", str(writes)]
    os.set_inheritable(writes, True)
    os.posix_spawn(
        sys.executable,
        command,
        with_a_key(),
        file_actions=[(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)],
    )
    os.close(writes)
    with open(reads, encoding="utf-8") as ready:
        line = ready.readline()
    if not line:
        raise RuntimeError("got no ready line from the server, expected one before it ends")
    pids: dict[str, int] = json.loads(line)["pids"]
    return pids


def with_a_key() -> dict[str, str]:
    """This process's environment with a new key for a server, because every user can connect to the loopback."""
    others = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return others | {VARIABLES[0]: secrets.token_urlsafe(16)}


def plain_program() -> dict[str, int]:
    """Fork a parent that forks a child; both only wait for a signal."""
    reads, writes = os.pipe()
    if (parent := os.fork()) == 0:
        if (child := os.fork()) != 0:
            os.write(writes, str(child).encode())
        os.close(reads)
        os.close(writes)
        signal.pause()
        os._exit(1)
    os.close(writes)
    with open(reads, encoding="utf-8") as told:
        return {"launcher": parent, "child": int(told.read())}


def lifeline(family: Family) -> str:
    """The path in /proc of the pipe that only the launcher can write, and all its children hold to read.

    Raises `LookupError` if there is none.
    """
    children = [pid for role, pid in family.items() if role not in ("launcher", "resource-tracker")]
    shared = set.intersection(*(set(_read_ends(pid)) for pid in children))
    if not shared:
        raise LookupError("got no pipe that all children read, expected the lifeline")
    return f"/proc/{children[0]}/fd/{_read_ends(children[0])[shared.pop()]}"


def _read_ends(pid: int) -> dict[int, int]:
    """The pipes that a process can only read: by inode, its descriptor."""
    pipes = [each for each in proc.read_descriptors(pid) if each.kind == "pipe"]
    infos = {each: fdinfo.read_fdinfo(pid, each.number) for each in pipes}
    return {each.inode: each.number for each, info in infos.items() if info and info.access == fdinfo.READ}


def left(family: Family, seconds: float = 3.0) -> list[str]:
    """The roles that still run after `seconds`, without the launcher; it waits no longer than until all have ended."""
    deadline = time.monotonic() + seconds
    while (running := [role for role, pid in family.items() if role != "launcher" and _runs(pid)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    return running


def _runs(pid: int) -> bool:
    process = proc.read_process(pid)
    return process is not None and not process.ended


def ending(family: Family, seconds: float = 2.0) -> int | None:
    """The launcher's exit code, negative for a signal; None if it still runs after `seconds`.

    It must be a child of the calling process.
    """
    ended = os.pidfd_open(family["launcher"])
    in_time = select.select([ended], [], [], seconds)[0]
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(family["launcher"], 0)[1]) if in_time else None


def end(*families: Family) -> None:
    """Kill all that still run."""
    for pid in (pid for family in families for pid in family.values() if _runs(pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
