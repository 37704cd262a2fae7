"""A server that nobody but its own processes looks after, started as any user would start it.

All facts come from its ready line and from its launcher's trace, a file with one line of JSON for each event.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lab_support.experiments.fates.clients import Clients

_KEYS = ("LAB_API_KEY", "VLLM_API_KEY")
_ERRORS = "errors"  # the file with all that the server says of errors
_PATIENCE = 30.0
_STOP_SECONDS = 15.0


class Milestone(NamedTuple):
    """Something that the launcher noted: when, by time.monotonic(), what, and of which process."""

    at: float
    stage: str
    about: str
    detail: str


@dataclass
class DoomedServer:
    """folder: of its trace. ready: the pipe for its ready line. key: its API key."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    ready: TextIO
    key: str

    @property
    def ended(self) -> bool:
        """Whether its launcher has ended."""
        return self.process.poll() is not None

    def await_ready(self) -> dict[str, int]:
        """Its processes by role. Raises `RuntimeError` if it ends instead."""
        line = self.ready.readline()
        if not line:
            raise RuntimeError(f"got a server that ended before it was ready, and said: {self._last_words()}")
        pids: dict[str, int] = json.loads(line)["pids"]
        return pids

    def await_process(self, role: str) -> dict[str, int]:
        """All that are there once this one and an engine core run our code, and the port is open.

        Raises `LookupError` if that is not so in time.
        """
        deadline = time.monotonic() + _PATIENCE
        pids: dict[str, int] = {}
        while time.monotonic() < deadline and not self.ended:
            pids = self.begun
            if {role, "engine-0"} <= pids.keys():
                return pids
            time.sleep(0.002)
        raise LookupError(f"got no process {role!r} within {_PATIENCE:g} s, only {', '.join(pids)}")

    @property
    def made(self) -> dict[str, int]:
        """The launcher, and all children that it has made so far."""
        children = [each for each in self.milestones() if each.stage.endswith(": done")]
        return {"launcher": self.process.pid} | {each.about: int(each.detail.split()[1]) for each in children}

    @property
    def begun(self) -> dict[str, int]:
        """Those of them that have set their title, which a child does once it is tied to the launcher."""
        return {name: pid for name, pid in self.made.items() if _has_title(pid, name)}

    @property
    def address(self) -> tuple[str, int]:
        [bound] = self.milestones("port open")
        host, _, port = bound.detail.removeprefix("http://").rpartition(":")
        return host, int(port)

    def milestones(self, stage: str = "", about: str = "") -> list[Milestone]:
        """The launcher's, in order."""
        lines = "".join(path.read_text() for path in sorted(self.folder.glob("*.launcher.*.trace"))).splitlines(True)
        found = [Milestone(*json.loads(line)[1:]) for line in lines if re.match(r'\["milestone",.*\n', line)]
        return [each for each in found if stage in ("", each.stage) and about in ("", each.about)]

    def clients(self, count: int) -> Clients:
        return Clients(self.address, self.key, count)

    def _last_words(self) -> str:
        return (self.folder / _ERRORS).read_text(errors="replace").strip().rpartition("\n")[2] or "nothing"

    def stop(self) -> None:
        """End it. When this returns, its launcher has been waited for. Takes at most 15 s."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _has_title(pid: int, name: str) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"lab:{name}".encode())
    return False


@contextmanager
def started(settings: Mapping[str, Any]) -> Iterator[DoomedServer]:
    """`lab serve` with these settings, such as {"api_server_count": 2}; it starts while the caller goes on.

    Its key is new, because every user can connect to the loopback.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fate-")))
        reads, writes = os.pipe()
        ready = stack.enter_context(open(reads, encoding="utf-8"))
        key = secrets.token_urlsafe(16)
        everything = {**settings, "port": 0, "ready_fd": writes, "trace_dir": folder, "log_level": "error"}
        words = [word for name, value in everything.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        errors = stack.enter_context(open(folder / _ERRORS, "wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "lab_support", "serve", *words],
            env={name: value for name, value in os.environ.items() if name not in _KEYS} | {_KEYS[0]: key},
            pass_fds=[writes],
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        os.close(writes)
        server = DoomedServer(process, folder, ready, key)
        stack.callback(server.stop)
        yield server
