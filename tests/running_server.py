"""Starts the real server as any user would, for tests: a process, a port, a ready line."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from lab_support.config import words_for

PACED = {"device": "paced:8B"}
"""For a test to which it does not matter who makes the tokens: a stand-in that takes its time, and hardly any CPU."""


@dataclass
class RunningServer:
    """A server that is ready. `facts` is its ready line; `log` the file with all that it wrote to stderr and stdout."""

    process: subprocess.Popen[bytes]
    facts: dict
    log: Path
    directory: Path

    @property
    def url(self) -> str:
        return self.facts["url"]

    @property
    def pids(self) -> dict[str, int]:
        return self.facts["pids"]

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: object = None, **options) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=60, **options)

    def said(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        self.process.terminate()
        return self.process.wait(30)


@contextlib.contextmanager
def launched(
    *words: str,
    env: dict[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "lab_support"),
    options: dict[str, Any] | None = None,
    **choices: object,
) -> Iterator[tuple]:
    """A launcher that has just been started: (process, read end of its ready pipe, log file, its TMPDIR).

    program: what Python is to run in place of the `lab` command, with the same flags. options: further ones of Popen.
    """
    with tempfile.TemporaryDirectory(prefix="lt-") as directory:
        log = Path(directory) / "log"
        read, write = os.pipe()
        command = [
            sys.executable,
            *program,
            "serve",
            *words_for({"port": 0, "ready_fd": write}),
            *words_for(choices),
            *words,
        ]
        runtime = Path(directory) / "r"
        runtime.mkdir()
        with log.open("wb") as output:
            usual: dict[str, Any] = {
                "pass_fds": (write,),
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": output,
                "cwd": runtime,
                "env": os.environ | {"TMPDIR": str(runtime)} | (env or {}),
            }
            process = subprocess.Popen(command, **usual | (options or {}))
        os.close(write)
        with open(read, encoding="utf-8") as ready:
            try:
                yield process, ready, log, runtime
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                print(log.read_text(errors="replace"))  # pytest shows it where the test fails


@contextlib.contextmanager
def running_server(*words: str, **choices: object) -> Iterator[RunningServer]:
    """A ready server; stopped at the end. Raises with its log where it never gets ready."""
    with launched(*words, **choices) as (process, ready, log, directory):
        line = ready.readline()
        if not line:
            raise RuntimeError(f"the server never got ready, exit code {process.wait(10)}:\n{log.read_text()}")
        server = RunningServer(process, json.loads(line), log, directory)
        yield server
        if process.poll() is None:
            server.stop()
