"""A server under streaming clients whose API servers are killed, rolled and starved; used by test_deaths.py and proofs.

Afterwards the whole is checked: streams lost though their API server lived, resources still held, and remains.
"""

import contextlib
import itertools
import os
import random
import resource
import select
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.benchmarks.accept_strategies import CLOSE, Answers, address_of, ask
from tests.kill_trial import command, living, wait_until_gone
from tests.running_server import RunningServer, running_server
from tests.stream_readers import Read, Readers, read_one

STREAMS = 16
LEAST_LIMIT = 16  # poll(2) refuses more entries than the limit of descriptors, and a launcher waits for several


@dataclass
class Report:
    """Actions and observations, over all servers. A failure is told with what was done to its server before."""

    kills: Counter[str] = field(default_factory=Counter)
    rolls: int = 0
    reads: Counter[str] = field(default_factory=Counter)
    shortages: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)  # (kind, what was seen)

    def of(self, *kinds: str) -> int:
        return sum(kind in kinds for kind, _ in self.failures)


def start_time(pid: int) -> str:
    """With the pid it names a process for good; empty where it has ended."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    return ""


def set_limit(pid: int, what: int, limits: tuple[int, int]) -> None:
    """Of a process that may have ended. Another user's is set as that user: prlimit(2) asks for the same one."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        owner = os.stat(f"/proc/{pid}").st_uid
        if owner == os.geteuid():
            resource.prlimit(pid, what, limits)
            return
        name = {resource.RLIMIT_NOFILE: "nofile", resource.RLIMIT_NPROC: "nproc"}[what]
        command = ["prlimit", f"--pid={pid}", f"--{name}={limits[0]}:{limits[1]}"]
        subprocess.run(command, user=owner, group=owner, extra_groups=[], check=False)


class Besieged:
    """One server. Everything that is done to it is noted, for the case that something fails."""

    def __init__(self, server: RunningServer, report: Report, chance: random.Random) -> None:
        self.server = server
        self.report = report
        self.chance = chance
        self.did: list[str] = []
        self.begun = time.monotonic()
        self.first = {pid for name, pid in server.pids.items() if name.startswith("api-")}
        self.names = {name for name in server.pids if name.startswith("api-")}
        self.engines = {name: (pid, start_time(pid)) for name, pid in server.pids.items() if name.startswith("engine-")}
        self.killed: dict[int, float] = {}
        self.readers = Readers(server.url, STREAMS)

    def note(self, what: str) -> None:
        self.did.append(f"{time.monotonic() - self.begun:.2f} s {what}")

    def fail(self, kind: str, seen: str) -> None:
        log = [line for line in self.server.said().splitlines() if " INFO " not in line]
        self.report.failures.append((kind, "\n    ".join([seen, *self.did[-12:], "its log:", *log[-12:]])))

    def wait(self, seconds: float) -> None:
        """Something is to happen at a random moment, or at the server's end."""
        descriptor = os.pidfd_open(self.server.process.pid)
        select.select([descriptor], [], [], seconds)
        os.close(descriptor)

    def ended(self) -> bool:
        return self.server.process.poll() is not None

    def api_servers(self) -> dict[int, str]:
        """Those that have a title by now, and are not known to be dead."""
        titles = {pid: command(pid).removeprefix("lab:") for pid in living(self.server.directory)}
        return {pid: title for pid, title in titles.items() if title.startswith("api-") and pid not in self.killed}

    def kind_of(self, pid: int, title: str) -> str:
        if title.endswith("retiring"):
            return "retiring"
        return "first" if pid in self.first else "replaced"

    def kill(self, kinds: set[str] | None = None, pids: set[int | None] | None = None) -> bool:
        """SIGKILL for one of them, of one of these kinds and pids; False where there is none now."""
        found = [(p, t, self.kind_of(p, t)) for p, t in self.api_servers().items()]
        found = [each for each in found if (kinds is None or each[2] in kinds) and (pids is None or each[0] in pids)]
        if not found:
            return False
        pid, title, kind = self.chance.choice(sorted(found))
        self.note(f"SIGKILL {title} {pid} ({kind})")
        self.killed[pid] = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.report.kills[kind] += 1
        return True

    def kill_the_server_of_a_stream(self) -> str:
        """At its first event: it is so long that it can't have been sent whole by then. Returns how it ended."""
        port = int(self.server.url.rsplit(":", 1)[1])
        return read_one(port, None, 1900, lambda read: read.pid in self.killed or self.kill(pids={read.pid})).how

    def kill_when_there_is_one(self, kinds: set[str] | None = None) -> None:
        deadline = time.monotonic() + 20
        while not self.ended() and not self.kill(kinds) and time.monotonic() < deadline:
            self.wait(0.05)

    def roll(self) -> None:
        self.note("SIGUSR1")
        self.server.process.send_signal(signal.SIGUSR1)
        self.report.rolls += 1

    def few_descriptors(self, pid: int, free: int) -> contextlib.AbstractContextManager[None]:
        """Inside, the process gets so many new ones, and then EMFILE."""
        used = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
        numbers = (number for number in itertools.count() if number not in used)
        limit = max(LEAST_LIMIT, next(itertools.islice(numbers, free, None)))
        return self._limited(pid, resource.RLIMIT_NOFILE, limit, f"{free} descriptors free")

    def few_processes(self, pid: int) -> contextlib.AbstractContextManager[None]:
        """Inside, it makes no process and no thread, if it is not root's."""
        return self._limited(pid, resource.RLIMIT_NPROC, 1, "no further process allowed")

    @contextlib.contextmanager
    def _limited(self, pid: int, what: int, limit: int, told: str) -> Iterator[None]:
        soft, hard = resource.getrlimit(what)  # the server has it from here
        self.note(f"{told} for {command(pid)} {pid}")
        set_limit(pid, what, (limit, hard))
        try:
            yield
        finally:
            self.note("and again as many as before")
            set_limit(pid, what, (soft, hard))

    def until(self, what: str, holds: Callable[[], bool], within: float = 40.0) -> bool:
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(requests.RequestException):
                if holds():
                    return True
            if time.monotonic() > deadline or self.ended():
                self.fail("afterwards", f"it never happened: {what}")
                return False
            select.select([], [], [], 0.05)

    def everybody_serves(self) -> bool:
        """Each slot has an API server that answers, and none is still retiring."""
        if any(title.endswith("retiring") for title in self.api_servers().values()):
            return False
        return set(self.served(10 * len(self.names))) == self.names

    def served(self, count: int) -> Counter[str]:
        """The servers that answer on so many connections, one after another."""
        answers = Answers()
        for _ in range(count):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(address_of(self.server), timeout=10) as connection,
            ):
                ask(connection, CLOSE, answers, 0.0)
        return answers.served

    def metric(self, name: str) -> float:
        lines = self.server.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


@contextlib.contextmanager
def besieged(report: Report, chance: random.Random, strategy: str, **choices: object) -> Iterator[Besieged]:
    """At the end it is looked at, stopped, and looked for."""
    with running_server(accept=strategy, **choices) as server:
        made = Besieged(server, report, chance)
        made.note(f"--accept {strategy}, pids {server.pids}")
        yield made
        if made.ended():
            made.fail("server", f"the server ended ({server.process.returncode}): {_last_line(server)}")
            made.readers.stop()
            return
        look_at_the_streams(made, strategy, made.readers.stop())
        look_at_the_server(made, strategy)
        look_for_leftovers(made)


def _last_line(server: RunningServer) -> str:
    return (server.said().strip().splitlines() or ["nothing"])[-1]


def look_at_the_streams(made: Besieged, strategy: str, reads: list[Read]) -> None:
    for read in reads:
        expected = _is_expected(made, strategy, read)
        made.report.reads[read.how if expected else f"{read.how} (unexpected)"] += 1
        if read.how == "different":
            made.fail("different", _difference(made.readers.reference, read.text))
        elif not expected:
            at = f"{read.begun - made.begun:.2f} to {read.ended - made.begun:.2f} s"
            made.fail("unexpected", f"a stream of {read.pid} ended: {read.how}, {at}; {read.text[-200:]!r}")


def _is_expected(made: Besieged, strategy: str, read: Read) -> bool:
    if read.how in {"whole", "sent on"}:
        return True
    if read.how == "unanswered":
        # Accepted by one that died, or in its own queue, which under reuseport also ends with an API server that
        # retires.
        died = any(read.begun - 1 <= at <= read.ended for at in made.killed.values())
        return died or (strategy == "reuseport" and made.report.rolls > 0)
    return read.how in {"cut", "error event"} and read.pid in made.killed


def _difference(reference: str, text: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(reference, text, strict=False)) if a != b), min(map(len, (reference, text)))
    )
    return (
        f"a whole stream differs at character {at}: {reference[at - 20 : at + 60]!r}, got {text[at - 20 : at + 60]!r}"
    )


def look_at_the_server(made: Besieged, strategy: str) -> None:
    for name, (pid, began) in made.engines.items():
        if start_time(pid) != began:
            made.fail("engine core", f"{name} {pid} has died")
    if strategy != "shared":
        made.until("every API server serves", made.everybody_serves)
    if strategy in {"least-loaded", "handoff"}:
        made.until("shares are even", lambda: max(made.served(60).values()) <= 1.5 * 60 / len(made.names))
    made.until("/load is 0", lambda: made.server.get("/load").json()["server_load"] == 0)
    made.until(
        "all blocks are free",
        lambda: made.metric("lab_engine_free_blocks") == made.metric("lab_engine_total_blocks") > 0,
    )


def look_for_leftovers(made: Besieged) -> None:
    code = made.server.stop()
    outcome = wait_until_gone(made.server.directory, 5.0)
    files = [str(path.relative_to(made.server.directory)) for path in made.server.directory.rglob("*")]
    if code or outcome.left or files:
        made.fail("left", f"exit code {code}, processes {outcome.left}, files {files}")
    if "Traceback" in made.server.said():
        made.fail("traceback", made.server.said().partition("Traceback")[2][:2000])
