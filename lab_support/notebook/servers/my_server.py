"""`lab.my_server()`: the reader's own server as a process, or the finished reference, which says so.

Runs in the kernel; the server runs in processes of its own, which end with the kernel.
"""

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab_support.notebook.cells.supervised import SupervisedProcess
from lab_support.notebook.page import own_server, record
from lab_support.notebook.page.views import View, escaped, highlighted
from lab_support.notebook.servers.live_server import (
    Server,
    ServerNotReady,
    identities_of,
    keep_track,
    stop_predecessor,
)
from lab_support.notebook.servers.server_session import session_for
from lab_support.notebook.stages.server_parts import READY_FD, token_after

START_SECONDS = 20.0
_GRACE = 2.0
_ROOT = str(Path(__file__).parents[3])
_PROMPT, _COUNT = "Are you ready?", 3
YOURS, THE_REFERENCE = "yours", "the reference"


@dataclass(slots=True, eq=False, repr=False)
class MyServer(Server):
    """A server of five steps that is ready. whose: `YOURS` or `THE_REFERENCE`. why: the reason, if it isn't yours."""

    whose: str = ""
    why: str = ""
    text: str = ""

    @property
    def program(self) -> View:
        """Its file."""
        head = f"{self.whose}: my_server.py, {len(self.text.splitlines())} lines"
        return View(f"# {head}\n{self.text}", f"<div>{escaped(head)}</div>{highlighted(self.text)}")


def my_server() -> MyServer:
    """Start the server that the reader has built in 07 and 07a, and wait until it answers. A context manager.

    If it is missing, unfinished or broken, the reference is started. A line says which, and why. Batch runs always
    take the reference. Raises `ServerNotReady` if that does not start either.
    """
    stop_predecessor(sys._getframe(1))
    text, why = _readers_text()
    if not why:
        try:
            server = _start(own_server.path(), text, YOURS)
            print(f"── my server: yours, {own_server.path().name}{_but(text)}")
            return server
        except ServerNotReady as error:
            why = str(error)
    reference = own_server.REFERENCE
    server = _start(reference, reference.read_text(encoding="utf-8"), THE_REFERENCE, why)
    print(f"── my server: the reference, because {why}")
    return server


def _readers_text() -> tuple[str, str]:
    """The reader's program, and the reason not to start it; "" if there is none."""
    if record.in_batch():
        return "", "this run has no reader"
    try:
        text = own_server.path().read_text(encoding="utf-8")
    except FileNotFoundError:
        return "", f"there is no {own_server.path().name} yet: 07 and 07a build it"
    except (OSError, UnicodeDecodeError) as error:
        return "", f"{own_server.path().name} can't be read: {error}"
    return text, own_server.why_unfinished(text)


def _but(text: str) -> str:
    steps = own_server.steps_of_reference(text)
    return f", but step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))} from the reference" if steps else ""


def _start(file: Path, text: str, whose: str, why: str = "") -> MyServer:
    """Raises `ServerNotReady`, with a reason that fits behind "because"."""
    began = time.monotonic()
    read_end, write_end = os.pipe()
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), _ROOT]))
    with open(read_end, "rb", buffering=0):
        supervised = SupervisedProcess(
            [sys.executable, str(file)],
            grace=_GRACE,
            ready_fd=write_end,
            environment={READY_FD: str(write_end), "PYTHONPATH": path},
        )
        try:
            url, pids = _await_ready(supervised, read_end, whose)
            identities = identities_of(pids)
            _demand_answer(url, whose)
        except BaseException:
            supervised.close()
            raise
    seconds = time.monotonic() - began
    server = MyServer(url, "", "stand-in", pids, identities, seconds, None, supervised, whose=whose, why=why, text=text)
    keep_track(server)
    return server


def _await_ready(supervised: SupervisedProcess, read_end: int, whose: str) -> tuple[str, dict[str, int]]:
    """The address and the pids in its READY line."""
    if not supervised.readable(read_end, START_SECONDS):
        raise ServerNotReady(f"{whose} has not said READY in {START_SECONDS:.0f} s")
    words = os.read(read_end, 65536).decode("utf-8", "replace").split()
    if words[:1] != ["READY"]:
        supervised.wait(_GRACE)
        said = supervised.errors.strip().splitlines() or ["without a word"]
        raise ServerNotReady(f"{whose} has ended before it was ready: {said[-1]}")
    return words[1], {name: int(pid) for name, _, pid in (word.partition("=") for word in words[2:])}


def _demand_answer(url: str, whose: str) -> None:
    """Ask for three tokens, and look whether they are the right ones."""
    wanted = _PROMPT.encode()
    for _ in range(_COUNT):
        wanted += token_after(wanted)
    got = ""
    session = session_for(url, None)
    with suppress(OSError, ValueError, LookupError):  # requests' errors are OSErrors
        asked = {"prompt": _PROMPT, "max_tokens": _COUNT}
        answer = session.post(f"{url}/v1/completions", data=json.dumps(asked), timeout=START_SECONDS)
        got = answer.json()["choices"][0]["text"]
    session.close()
    if _PROMPT + got != wanted.decode():
        raise ServerNotReady(f"{whose} answers {got[:40]!r} where {wanted.decode().removeprefix(_PROMPT)!r} is right")
