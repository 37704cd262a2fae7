"""Runs a child with a deadline: reports its result or exception, its crash, or where it hangs. Standard library only.

`in_forked_child` forks this very process, with all that it holds, which most experiments are about.
`in_started_child` makes a child by spawn or forkserver. Neither leaves a process behind.
"""

import faulthandler
import json
import multiprocessing
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import IO, Any

from lab_support.experiments.program import attempt, tail
from lab_support.instruments.waiting import waiting_threads

KILL_SECONDS = 5.0
DEBUGGER_SECONDS = 25.0


def in_forked_child(
    action: Callable[[], Any], seconds: float = 15.0, *, leave_normally: bool = False, native_stacks: bool = False
) -> dict[str, Any]:
    """Fork and run `action` in the child. `outcome` in the result is returned, raised, crashed or hung.

    leave_normally: the child ends by SystemExit, through atexit and destructors, instead of at once. native_stacks:
    ask gdb or cuda-gdb, if installed, where a hanging child is. Runs in the parent for at most `seconds`, and up to
    40 s more to examine and kill a child that hangs.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    began = time.monotonic()
    with TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _be_the_child(action, write_end, errors)
            if leave_normally:
                raise SystemExit(0)
            os._exit(0)
        os.close(write_end)
        result = _await(pid, read_end, began + seconds, native_stacks)
        return result | {"seconds": round(time.monotonic() - began, 3), "errors": tail(errors)}


def _be_the_child(action: Callable[[], Any], write_end: int, errors: IO[bytes]) -> None:
    """Runs in the forked child."""
    os.dup2(errors.fileno(), 2)
    faulthandler.enable(file=2)
    os.write(write_end, json.dumps(attempt(action), default=str).encode())
    os.close(write_end)


def _await(pid: int, read_end: int, deadline: float, native_stacks: bool) -> dict[str, Any]:
    """Runs in the parent. Returns the child's answer and end."""
    text = _read_all(read_end, deadline)
    os.close(read_end)
    status = _wait(pid, max(0.5, deadline - time.monotonic()))
    return _hung(pid, text, native_stacks) if status is None else _judge(text, status)


def _read_all(descriptor: int, deadline: float) -> bytes:
    """Read until the other end is closed or until `deadline`."""
    text = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            break
        text += piece
    return text


def _wait(pid: int, seconds: float) -> int | None:
    """The child's wait status, or None if it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)  # a pidfd would tell at once, but some sandboxed kernels lack them


def _judge(text: bytes, status: int) -> dict[str, Any]:
    """The outcome of a child that has ended."""
    ended = how_it_ended(status)
    if not text:
        return {"outcome": "crashed", **ended}
    result = json.loads(text)
    late = "" if ended["exit_code"] == 0 else ", then crashed while leaving"
    return {"outcome": ("returned" if result["ok"] else "raised") + late, **result, **ended}


def how_it_ended(status: int) -> dict[str, Any]:
    """A wait status as exit code or signal name."""
    if os.WIFSIGNALED(status):
        return {"exit_code": None, "signal": signal.Signals(os.WTERMSIG(status)).name}
    return {"exit_code": os.WEXITSTATUS(status), "signal": ""}


def _hung(pid: int, text: bytes, native_stacks: bool) -> dict[str, Any]:
    """Examine a child that still runs, then end it. SIGABRT first: faulthandler then writes all Python stacks."""
    waits_for = waiting_threads(pid)
    native = _native_stacks(pid) if native_stacks else ""
    os.kill(pid, signal.SIGABRT)
    status = _wait(pid, KILL_SECONDS)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        status = _wait(pid, KILL_SECONDS)
    said = json.loads(text) if text else {}
    return {
        "outcome": "hung" if not text else "answered, then hung while leaving",
        **said,
        "waits_for": waits_for,
        "native_stacks": native,
        "could_be_killed": status is not None,
    }


def _native_stacks(pid: int) -> str:
    """C stacks of all threads from a debugger, or "" if none is installed. A debugger that takes too long is killed."""
    debugger = shutil.which("gdb") or shutil.which("cuda-gdb")
    if debugger is None:
        return ""
    command = [debugger, "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 25"]
    with TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            process.wait(DEBUGGER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return tail(output)


# ---- spawn and forkserver --------------------------------------------------------------------------------------------


def in_started_child(method: str, action: Callable[..., Any], *arguments: Any, seconds: float = 60.0) -> dict[str, Any]:
    """Like `in_forked_child`, for a child made by `method`; adds the milliseconds from start() to its entry.

    action: a module-level function, because spawn pickles it by name. Runs in the parent.
    """
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, action, arguments, time.monotonic()))  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    hung = not ours.poll(seconds)
    waits_for = waiting_threads(process.pid) if hung else []
    answer = {} if hung else _receive(ours)
    process.join(KILL_SECONDS)
    if process.is_alive():
        process.kill()
        process.join(KILL_SECONDS)
    ours.close()
    outcome = "returned" if answer.get("ok") else "raised" if answer else "hung" if hung else "crashed"
    return {"outcome": outcome, **answer, "exit_code": process.exitcode, "waits_for": waits_for}


def _receive(connection: Connection) -> dict[str, Any]:
    """The answer; nothing if the child ended without one."""
    try:
        return connection.recv()
    except EOFError:
        return {}


def _answer(connection: Connection, action: Callable[..., Any], arguments: tuple, asked_at: float) -> None:
    """Runs in the started child."""
    entered_at = time.monotonic()
    result = attempt(lambda: action(*arguments))
    times = {"ms_to_entry": _ms(entered_at - asked_at), "ms_to_done": _ms(time.monotonic() - asked_at)}
    connection.send(result | times)
    connection.close()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
