"""A server whose program has used PyTorch before, with the rule on start methods obeyed or overridden.

`watch` starts such a program in a fresh process, and says what its client, its log and its launcher see. No flag of
the server does this: the program replaces `start_rule.choose`.

Taught in: 06_which_start_method
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab_support.instruments import proc
from lab_support.notebook.stages.unwatched import with_a_key

THREADS = 2
_AT_MOST = 60.0  # seconds beyond the server's own limit
_LOG_TIME = re.compile(r"^\d\d:\d\d:\d\d (lab:\S+) \d+ ", re.MULTILINE)


# Text, because a process of its own imports all of the server, and nothing of it is imported here. The rule is replaced
# before the launcher's module takes the name from there.
_PROGRAM = """\
import json, sys
if __name__ == "__main__":  # spawned API servers run this file again, as another module
    import torch
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.ones(600, 600) @ torch.ones(600, 600)

    from lab_support.boundary.start_choice import StartChoice
    from lab_support.config import ServerConfig
    from lab_support.supervision import start_rule
    if given["override"]:
        start_rule.choose = lambda asked, seen, asked_by="": StartChoice(asked, asked_by, asked, ())
    from lab_support.processes import launcher
    sys.exit(launcher.main(ServerConfig(start_method="fork", api_server_count=1, **given["server"])))
"""


# ---- watching it -----------------------------------------------------------------------------------------------------


def watch(*, override: bool, threads: int = THREADS, ready_timeout: float = 10.0) -> dict[str, Any]:
    """Run the program until its server is ready or has ended, then stop it.

    Returns what the client got, the log's lines without their times, the launcher's exit code (None if it was ready),
    the seconds from the launcher's first line until then, and the limit.
    """
    with _started(override, threads, ready_timeout) as running:
        began = running.await_log()
        answer = running.await_answer(began + ready_timeout + _AT_MOST)
        return {
            "client": answer,
            "log": running.lines(),
            "launcher": running.program.poll(),
            "seconds": round(time.monotonic() - began, 1),
            "limit": ready_timeout,
        }


@contextmanager
def late_engine_core() -> Iterator["EngineCore"]:
    """The engine core of a server whose rule was overridden, some seconds after the fork; it ends with the block."""
    with _started(True, THREADS, 60.0) as running:
        running.await_log()
        core = running.await_engine_core()
        core.await_standstill()
        yield core


@dataclass(frozen=True, slots=True)
class EngineCore:
    pid: int

    def facts(self) -> dict[str, Any]:
        """The kernel's letter for its state, the number of its threads, and its seconds of processor time."""
        process = proc.read_process(self.pid)
        if process is None:
            return {"state": "gone", "threads": 0, "seconds": 0.0}
        return {"state": process.state, "threads": process.threads, "seconds": process.cpu_seconds}

    def await_standstill(self) -> None:
        """Wait until its processor time has not grown for a second, for 20 seconds at most."""
        deadline, before = time.monotonic() + 20.0, -1.0
        while time.monotonic() < deadline and (now := self.facts()["seconds"]) != before:
            before = now
            time.sleep(1.0)


@dataclass(frozen=True, slots=True)
class _Running:
    program: "subprocess.Popen[bytes]"
    port: int
    log: int

    def lines(self) -> list[str]:
        said = os.pread(self.log, 100_000, 0).decode("utf-8", "replace")
        return [line for line in _LOG_TIME.sub(r"\1 ", said).splitlines() if line.startswith("lab")]

    def await_log(self) -> float:
        """The moment at which the launcher has written its first line, or has ended."""
        while not self.lines() and self.program.poll() is None:
            time.sleep(0.05)
        return time.monotonic()

    def await_answer(self, deadline: float) -> str:
        """What the client got last: the server's answer once it is ready, else what it got before the end."""
        answer = "nothing"
        while time.monotonic() < deadline and self.program.poll() is None:
            answer = _ask(self.port)
            if answer.startswith("HTTP/1.1 200"):
                break
            time.sleep(0.1)
        return answer

    def await_engine_core(self) -> EngineCore:
        """Raises `LookupError` if there is none within 20 seconds."""
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            for each in proc.process_tree(self.program.pid):
                if each.parent_pid == self.program.pid and each.title.startswith("lab:engine"):
                    return EngineCore(each.pid)
            time.sleep(0.05)
        raise LookupError("got no engine core within 20 s, expected one that the launcher has forked")


@contextmanager
def _started(override: bool, threads: int, ready_timeout: float) -> Iterator[_Running]:
    port = _free_port()
    server = {"port": port, "torch_threads": THREADS, "ready_timeout": ready_timeout}
    given = {"threads": threads, "override": override, "server": server}
    log = os.memfd_create("log")
    with tempfile.NamedTemporaryFile("w", prefix="forced", suffix=".py") as file:
        file.write(_PROGRAM)
        file.flush()
        command = [sys.executable, file.name, json.dumps(given)]
        program = subprocess.Popen(command, env=with_a_key(), stdout=log, stderr=log)
        try:
            yield _Running(program, port, log)
        finally:
            program.terminate()
            program.wait()
            os.close(log)


def _ask(port: int) -> str:
    """The first line of the answer to GET /health; or the error."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(1000).partition(b"\r\n")[0].decode() or "the end of the connection"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or type(error).__name__


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port
