"""One peer's server: started as its users start it, until its first answer; its memory and CPU time; ended."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.instruments import proc
from lab_support.instruments.record.provenance import ROOT
from tests.benchmarks.peers.below import kill_all
from tests.benchmarks.peers.kinds import Peer

STARTS_WITHIN, ENDS_WITHIN = 180.0, 15.0


class PeerFailed(RuntimeError):
    """A peer ended, or gave no answer. The text ends with the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has answered. seconds_to_first_answer: since its command was started."""

    process: "subprocess.Popen[bytes]"
    port: int
    seconds_to_first_answer: float

    def tree(self) -> list[proc.Process]:
        return proc.process_tree(self.process.pid)

    def memory_mb(self) -> float:
        """The proportional memory (PSS) of all its processes."""
        found = [proc.read_memory(each.pid) for each in self.tree()]
        return sum(each.pss for each in found if each) / 1e6

    def cpu_seconds(self) -> dict[int, float]:
        """CPU time of each process so far, by pid."""
        return {each.pid: each.cpu_seconds for each in self.tree()}


@contextmanager
def running(peer: Peer, python: Path, model: Path) -> Iterator[Running]:
    """A server in a folder of its own, on a free port of the loopback interface; stopped at the end.

    Raises `PeerFailed`. For a process with no other children: `kill_all` ends what a peer's own stop leaves behind.
    """
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder, _log() as log:
        port, began = _free_port(), time.monotonic()
        names = {"python": python, "bin": python.parent, "model": model, "port": port}
        process = subprocess.Popen(
            [word.format_map(names) for word in peer.command.split()],
            cwd=folder,
            env=_environment(model, Path(folder))
            | {key: text.format_map(names) for key, text in peer.environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for_an_answer(process, port, model, log, began + STARTS_WITHIN)
            yield Running(process, port, time.monotonic() - began)
        finally:
            _stop(process)


def _log() -> Any:
    return tempfile.TemporaryFile()


def _environment(model: Path, folder: Path) -> dict[str, str]:
    """The packages of its own environment alone, and this repository, for the programs of this room."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "PEER_MODEL": str(model), "TOKENIZERS_PARALLELISM": "false"}
    return kept | own


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _wait_for_an_answer(process: "subprocess.Popen[bytes]", port: int, model: Path, log: Any, deadline: float) -> None:
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port, model):
            return
        time.sleep(0.02)
    why = "no answer in time" if process.poll() is None else f"exit code {process.returncode}"
    raise PeerFailed(f"{why}: {_end_of(log)}")


def _answers(port: int, model: Path) -> bool:
    """Whether it completes a prompt with a token of text."""
    body = json.dumps({"model": str(model), "prompt": "Once upon a time", "max_tokens": 1, "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status == 200 and b'"text"' in answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_of(log: Any) -> str:
    log.seek(0)
    text: str = log.read().decode("utf-8", "replace")
    return text[-2000:]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and 15 seconds later SIGKILL, for what is left of its processes at once."""
    process.terminate()
    try:
        process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        print(f"{process.args!r} did not end by SIGTERM", file=sys.stderr)
    kill_all()
    process.wait()
