"""Starts `lab watch` as a user would, and looks at its page as a browser does, but without one."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

PATIENCE = 30.0
_SLEEPER = ("-c", "import time; time.sleep(600)")
_ADDRESS = re.compile(r"http://(127\.0\.0\.1:\d+)(/\w+/)\?token=([\w-]+)")


@dataclass
class Stream:
    """The stream of one tab. `latest`: the last message of each kind."""

    answer: requests.Response
    latest: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    _lines: Any = None

    def __post_init__(self) -> None:
        self._lines = self.answer.iter_lines()

    def next(self) -> bool:
        """Take one message; False at the end of the stream."""
        kind = ""
        for line in self._lines:
            if line.startswith(b"event: "):
                kind = line[7:].decode()
            elif line.startswith(b"data: "):
                self.latest[kind] = json.loads(line[6:])
                self.kinds.append(kind)
                self.events += self.latest[kind]["events"] if kind == "happened" else []
                return True
        return False

    def until(self, true: Callable[["Stream"], Any]) -> Any:
        """Take messages until `true(self)` is; return what it is."""
        while not (found := true(self)):
            assert self.next(), f"the stream ended; the last figures: {self.latest}"
        return found

    def process(self, pid: int) -> dict[str, Any] | None:
        """The row of one process in the latest figures."""
        rows = self.latest.get("figures", {}).get("processes", [])
        return next((row for row in rows if row["pid"] == pid), None)

    def happened(self, words: str) -> dict[str, Any] | None:
        return next((event for event in self.events if words in event["words"]), None)


@dataclass
class Watching:
    """A running `lab watch`. session: has the cookie once `enter` was called."""

    process: subprocess.Popen
    host: str
    path: str
    token: str
    said: list[str]
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.path}"

    def enter(self) -> requests.Response:
        return self.session.get(self.url, params={"token": self.token}, timeout=PATIENCE)

    @contextlib.contextmanager
    def tab(self) -> Iterator[Stream]:
        with self.session.get(self.url + "events", stream=True, timeout=PATIENCE) as answer:
            assert answer.status_code == 200, answer.text
            yield Stream(answer)

    def press(self, button: str, body: dict[str, Any], **headers: str) -> requests.Response:
        """As the page does it, unless `headers` say otherwise."""
        own = {"Origin": f"http://{self.host}", "Content-Type": "application/json"} | headers
        return self.session.post(self.url + button, data=json.dumps(body), headers=own, timeout=PATIENCE)

    def raw(self) -> socket.socket:
        """A connection to it."""
        host, port = self.host.split(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def read_calls(self) -> int:
        """Its read(2) calls so far: a look at a process tree makes dozens."""
        with open(f"/proc/{self.process.pid}/io") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("syscr"))

    def next_token(self) -> str:
        """The token of the next address that it prints."""
        return _address(self.process, self.said)[3]


@contextlib.contextmanager
def watched(what: object, *flags: str, key: str | None = None, program: tuple[str, ...] = ()) -> Iterator[Watching]:
    """`lab watch` of a pid or a URL, until it ends or the body does. program: what to run it in."""
    command = [*program, sys.executable, "-m", "lab_support", "watch", str(what), *flags]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment |= {"LAB_API_KEY": key} if key else {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            said: list[str] = []
            host, path, token = _address(process, said).groups()
            watching = Watching(process, host, path, token, said)
            with watching.session:
                yield watching
        finally:
            process.kill()


def _address(process: subprocess.Popen, said: list[str]) -> re.Match[str]:
    for line in process.stdout:
        said.append(line)
        if found := _ADDRESS.search(line):
            return found
    raise AssertionError(f"no address: {said}")


@contextlib.contextmanager
def family(*, program: tuple[str, ...] = _SLEEPER) -> Iterator[tuple[int, list[int]]]:
    """A parent with two sleeping children: their pids. It replaces none, and waits for each. program: what they run."""
    code = (
        "import subprocess, sys\n"
        "each = [subprocess.Popen([sys.executable, *sys.argv[1:]]) for _ in range(2)]\n"
        "print(*(one.pid for one in each), flush=True)\n"
        "[one.wait() for one in each]"
    )
    with subprocess.Popen([sys.executable, "-c", code, *program], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        try:
            yield parent.pid, pids
        finally:
            for pid in (*pids, parent.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
