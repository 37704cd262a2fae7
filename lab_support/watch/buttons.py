"""The page's buttons under `--allow-signals`: four signals to processes of the watched tree, and 16 clients.

The pid and the start time of a process come from the page. They are compared with the last look, and the signal goes
through a pidfd, so that no other process is hit. Clients are `lab load`, a process of its own that ends by itself.
Runs in the process that watches.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lab_support.instruments import proc
from lab_support.instruments.proc import Identity
from lab_support.watch.events import NOTE, SENT, Event
from lab_support.watch.hub import clock
from lab_support.watch.looks import Look
from lab_support.watch.site import Refused

SIGNALS = ("SIGSTOP", "SIGCONT", "SIGKILL", "SIGUSR1")
CLIENTS, REQUESTS = 16, 320
_PATIENCE = 2.0  # seconds that the clients have to end
Tell = Callable[[list[Event]], None]


class Signals:
    """Sends signals to the processes of the last look, and tells the tabs."""

    def __init__(self, last_look: Callable[[], Look | None], tell: Tell) -> None:
        self._last_look, self._tell = last_look, tell

    def send(self, body: dict[str, Any]) -> str:
        """The button: `{"pid": …, "start": …, "signal": "SIGSTOP"}`. Returns what was done. Raises `Refused`."""
        name, pid = body.get("signal"), body.get("pid")
        if name not in SIGNALS:
            raise Refused(f"got {name!r}, expected one of {', '.join(SIGNALS)}")
        look = self._last_look()
        members = {member.identity: member for member in look.running} if look else {}
        member = members.get(Identity(pid, body["start"])) if isinstance(pid, int) and "start" in body else None
        if member is None:
            raise Refused(f"got pid {pid!r}, expected a process of this server that still runs")
        _send(member.identity, signal.Signals[name])
        words = f"{name} was sent to {member.name} ({pid}) from this page"
        self._tell([Event(clock(), SENT, member.pid, words)])
        return words


def _send(identity: Identity, number: signal.Signals) -> None:
    try:
        file = os.pidfd_open(identity.pid)
    except OSError as error:
        raise Refused(f"pid {identity.pid}: {error.strerror}") from error
    try:
        if not proc.is_running(identity):
            raise Refused(f"pid {identity.pid} has ended")
        signal.pidfd_send_signal(file, number)
    except OSError as error:
        raise Refused(f"pid {identity.pid}: {error.strerror}") from error
    finally:
        os.close(file)


class Clients:
    """Runs `lab load` against `url`, one at a time. `close` ends it."""

    def __init__(self, url: str, key: str | None, tell: Tell) -> None:
        self._url, self._key, self._tell = url, key, tell
        self._running: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def start(self, body: dict[str, Any]) -> str:
        """The button. Returns what was done. Raises `Refused` while the last ones still ask."""
        with self._lock:
            if self._running is not None:
                raise Refused("the last clients still ask")
            command = [sys.executable, "-m", "lab_support", "load", self._url]
            command += ["--clients", str(CLIENTS), "--requests", str(REQUESTS)]
            environment = os.environ | ({"LAB_API_KEY": self._key} if self._key else {})
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            self._running = subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]
        threading.Thread(target=self._await, args=(self._running,), name="clients", daemon=True).start()
        words = f"{CLIENTS} clients have begun to ask"
        self._tell([Event(clock(), NOTE, 0, words)])
        return words

    def close(self) -> None:
        """When it returns, the process has been waited for."""
        with self._lock:
            running = self._running
        if running is not None:
            with suppress(ProcessLookupError):
                running.terminate()
            try:
                running.wait(_PATIENCE)
            except subprocess.TimeoutExpired:  # it has been stopped
                running.kill()
                running.wait()

    def _await(self, running: "subprocess.Popen[str]") -> None:
        output, errors = running.communicate()
        with self._lock:
            self._running = None
        said = (output.splitlines() or errors.splitlines() or ["they have ended"])[0]
        self._tell([Event(clock(), NOTE, 0, f"{CLIENTS} clients: {said}")])
