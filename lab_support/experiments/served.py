"""A server for an experiment, started as any user would start it: `python -m lab_support serve`.

It imports nothing from the server: all facts come from the ready line, from HTTP and from /proc.
"""

import json
import os
import re
import select
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

from lab_support.experiments.program import tail

STOP_SECONDS = 15.0


class ServerNotReady(RuntimeError):
    """The server ended, or was silent for too long. The text ends with the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is ready. pids: by role, including the launcher's. details: choices of its engine cores."""

    process: "subprocess.Popen[bytes]"
    url: str
    pids: dict[str, int]
    details: dict[str, Any]
    seconds_to_ready: float


@contextmanager
def server(*flags: str, seconds: float = 90.0) -> Iterator[Served]:
    """`lab serve` with `flags` on a free port; stopped, and if need be killed, when the context ends.

    Raises `ServerNotReady` if it isn't ready within `seconds`.
    """
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "lab_support", "serve", "--port", "0", "--ready-fd", str(write_end), *flags]
    began = time.monotonic()
    with TemporaryFile() as log:
        process = subprocess.Popen(
            command, pass_fds=(write_end,), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        os.close(write_end)
        try:
            line = _read_line(read_end, began + seconds)
            if not line:
                process.kill()
                raise ServerNotReady(f"exit code {process.wait()} after {time.monotonic() - began:.0f} s: {tail(log)}")
            facts = json.loads(line)
            yield Served(process, facts["url"], facts["pids"], facts["details"], round(time.monotonic() - began, 3))
        finally:
            os.close(read_end)
            _stop(process)


def _read_line(descriptor: int, deadline: float) -> bytes:
    """One line, or b"" at the end of the pipe or at `deadline`."""
    text = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 1 << 16)
        text += piece
        if not piece or text.endswith(b"\n"):
            return text
    return b""


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def metrics(url: str) -> dict[str, float]:
    """Every value of /metrics, by `name` or `name{stage="run"}`, summed over all other labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = defaultdict(float)
    for name, labels, value in re.findall(r"^([a-z_:]+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        kept = "".join(f"{{{label}}}" for label in re.findall(r'(?:stage|api_server)="[^"]*"', labels))
        found[name + kept] += float(value)
    return dict(found)
