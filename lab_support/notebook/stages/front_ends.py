"""Several front ends and one engine, each in a forked process, for programs that say how they find each other.

Taught in: 07_how_do_strangers_find_each_other
"""

import json
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

FrontEnd = Callable[[int, str, list[str]], list[str]]
Engine = Callable[[int, str], object]


def serve(front_end: FrontEnd, engine: Engine, prompts: Sequence[list[str]]) -> list[list[str]]:
    """Run `engine(count, folder)` and, for each list of `prompts`, `front_end(number, folder, list)`.

    All run at once, in processes of their own; `folder` is for their sockets. Returns each front end's result, as soon
    as all have returned; the engine, which need not return, is killed then. Raises `RuntimeError` if one of them fails.
    """
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        working = _Child("the engine", partial(engine, len(prompts), folder))
        asking = [
            _Child(f"front end {number}", partial(front_end, number, folder, own)) for number, own in enumerate(prompts)
        ]
        try:
            return [each.result() for each in asking]
        finally:
            for each in asking:
                each.end()
            if error := working.end():
                raise RuntimeError(error)


class _Child:
    """A forked process that sends the result of `work` as JSON."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self._name = name
        self._reads, writes = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _work(work, writes)
        os.close(writes)

    def result(self) -> Any:
        """Wait for it. Raises `RuntimeError` with its error."""
        told = self._told()
        if "result" not in told:
            raise RuntimeError(told.get("error", f"{self._name} ended without a result"))
        return told["result"]

    def _told(self) -> dict[str, Any]:
        data = b""
        while piece := os.read(self._reads, 65536):
            data += piece
        return json.loads(data) if data else {}

    def end(self) -> str:
        """Kill it and wait for it; returns the error by which it had ended, or ""."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        error = str(self._told().get("error", ""))
        os.close(self._reads)
        return f"{self._name}: {error}" if error else ""


def _work(work: Callable[[], Any], writes: int) -> NoReturn:
    try:
        told = {"result": work()}
    except BaseException as error:
        traceback.print_exc()
        told = {"error": f"{type(error).__name__}: {error}"}
    with open(writes, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    os._exit(0)  # without ZeroMQ's own end, which waits for messages that nobody takes
