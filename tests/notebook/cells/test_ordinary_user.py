"""Without privileges and without strace: cells, X-rays and counts work all the same, and say what is missing."""

import contextlib
import io
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import lab_support.notebook as lab
from lab_support.instruments import kernel
from lab_support.notebook.cells.python_process import run_process
from tests.instruments.as_nobody import as_nobody_with_python


def ordinarily(function: Callable[[], Any]) -> Any:
    """The result of `function`, run by a user who is not root and has no strace on the PATH."""

    def without_strace() -> Any:
        os.environ["PATH"] = "/nowhere"
        return function()

    return as_nobody_with_python(without_strace)


def shown_by(source: str, **choices: Any) -> tuple[str, str]:
    """A cell's end, and the output for the reader."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page):
        result = run_process(source, **choices)
    return result.outcome, page.getvalue()


def test_a_cell_runs_is_explained_when_it_hangs_and_says_that_strace_is_missing():
    hangs = """
import os, threading
lock = threading.Lock()
lock.acquire()
if os.fork() == 0:
    lock.acquire()
os.wait()
"""
    outcome, shown = ordinarily(lambda: shown_by(hangs, timeout=1, expect="timeout", name="hangs"))
    assert outcome == "timeout"
    assert "waits for a child to end" in shown
    assert "waits for a lock or condition in memory (futex)\n      hangs.py, line 6" in shown
    outcome, shown = ordinarily(lambda: shown_by("print('ran')", strace=True))
    assert outcome == "0"
    assert "ran" in shown and "strace: not found" in shown


def test_nothing_of_a_cell_is_left_to_an_ordinary_user_either():
    daemon = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.pause()
    os._exit(0)
"""

    def left() -> list[int]:
        result = run_process(daemon, expect="leftover", quiet=True)
        return [each.identity.pid for each in result.processes if os.path.exists(f"/proc/{each.identity.pid}")]

    assert ordinarily(left) == []


def test_an_xray_of_ones_own_processes_and_an_accept_queue_need_no_privilege():
    def look() -> tuple[int, tuple[str, ...], int, str]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            child = os.fork()
            if child == 0:
                signal.pause()
            port = server.getsockname()[1]
            seen = lab.xray(os.getpid())
            with lab.watch_accept_queue(port) as watch, socket.create_connection(server.getsockname()):
                while not watch.history().most:
                    pass
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return len(seen.who_holds(port=port)), seen.graph.notes, watch.history().most, watch.history().reason

    assert ordinarily(look) == (2, (), 1, "")


def test_wake_ups_are_counted_without_privilege():
    def count() -> float:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            while os.read(read, 1):
                pass
        kernel.wait_until_asleep([child])

        def work() -> None:
            for _ in range(20):
                os.write(write, b"x")
                kernel.wait_until_asleep([child])

        try:
            return kernel.count_wake_ups([child], work, 20).per_connection
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    assert 0.8 < ordinarily(count) < 1.5
