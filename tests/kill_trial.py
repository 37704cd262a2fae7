"""One SIGKILL of one process of a real server, and what is left afterwards. Used by test_failures.py and by proofs.

Every process of a server inherits its working directory, and here that is a folder that no other process uses. So
whoever works there is left over from the server, whatever its title is and whoever its parent has become.
"""

import os
import select
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

ROLES = ("launcher", "api-0", "api-1", "engine-0", "coordinator", "resource-tracker")


@dataclass
class Outcome:
    """The remains of one kill. `seconds` is the time from the kill until the last process was gone."""

    seconds: float
    left: list[str]
    streams: list[str] = field(default_factory=list)


def living(directory: Path) -> list[int]:
    """Pids of all processes that work in `directory`; zombies work nowhere."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == str(directory):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def command(pid: int) -> str:
    """The title, or the command line; empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def find(role: str, directory: Path) -> int | None:
    """The pid of a role, if it is there by now: a child has its title only once it runs code of ours."""
    wanted = "multiprocessing.resource_tracker" if role == "resource-tracker" else f"lab:{role}"
    return next((pid for pid in living(directory) if wanted in command(pid)), None)


def wait_until_gone(directory: Path, within: float) -> Outcome:
    """Wait until no process works in `directory`, at most `within` seconds, then report and kill those left."""
    begun = time.monotonic()
    while (pids := living(directory)) and time.monotonic() < begun + within:
        for pid in pids:
            _wait_for_end(pid, begun + within)
    seconds = time.monotonic() - begun
    left = [f"{pid} {command(pid)}" for pid in living(directory)]
    for pid in living(directory):
        os.kill(pid, 9)
    return Outcome(seconds, left)


def _wait_for_end(pid: int, deadline: float) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    os.close(descriptor)


class Streams:
    """Clients that each read one long streamed answer, of so many tokens; how it ended: done, error event, or cut.

    When it is made, every stream has brought its first event. `waited` says after how many seconds, for each.
    """

    def __init__(self, url: str, count: int, tokens: int = 1900) -> None:
        self.ended: list[str] = []
        self.waited: list[float] = []
        self._flowing = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._read, args=(url, tokens)) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            self._flowing.acquire()

    def __repr__(self) -> str:
        return f"Streams(ended={self.ended}, waited={self.waited})"

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join()
        return self.ended

    def _read(self, url: str, tokens: int) -> None:
        body = {"prompt": "Once upon a time", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        ended, flowing, begun = "cut", False, time.monotonic()
        try:
            with requests.post(f"{url}/v1/completions", json=body, stream=True, timeout=30) as answer:
                for line in answer.iter_lines():
                    if not flowing:
                        self.waited.append(time.monotonic() - begun)
                        self._flowing.release()
                        flowing = True
                    if line == b"data: [DONE]":
                        ended = "done"
                    elif line.startswith(b'data: {"error"'):
                        ended = "error event"
        except requests.RequestException:
            ended = "cut"
        if not flowing:
            self._flowing.release()
        self.ended.append(ended)
