"""Functions for a cell's own processes: `emit`, `announce`, `inputs`, `xray`, `in_child`, `listeners`.
Standard library only.

They work in any process of the cell, however it was made, because they need only its environment.
"""

import json
import mmap
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from lab_support.notebook.cells.cell_messages import DEEPEST, is_too_deep
from lab_support.notebook.cells.readers_lines import show_readers_lines
from lab_support.signal_names import signal_name

Take = Callable[[socket.socket], bool]
WaitFunction = Callable[[socket.socket, Take], object]
Counts = memoryview

_MOST = 100_000  # bytes in one message; a datagram socket takes about twice that by default


def emit(fields: dict[str, Any] | None = None, /, **more: Any) -> None:
    """Send an event to the notebook: `emit(step=3)`. The values must fit into JSON. It is in the result's `events`.

    Raises `ValueError` if it is too long or too deep, `RuntimeError` outside a cell.
    """
    _send({"event": {**(fields or {}), **more}})


def announce(name: str) -> None:
    """From now on, this process goes by `name` in the notebook."""
    _send({"name": name})


def inputs() -> dict[str, Any]:
    """The variables that the cell's `--inputs` named."""
    with open(f"{_folder()}/inputs.json", encoding="utf-8") as file:
        values: dict[str, Any] = json.load(file)
    return values


def xray(name: str) -> None:
    """Take an X-ray of this process and all its descendants; `lab.xray(run, name)` draws it in the notebook."""
    from lab_support.instruments.xray.read import take_xray  # costs 20 ms, which most cells need not pay

    emit(xray=name, graph=json.loads(take_xray(os.getpid(), outside=False).to_json()))


def in_child(work: Callable[[], Any], seconds: float = 5.0, *, fork: Callable[[], int] = os.fork) -> Any:
    """Fork, run `work()` only in the child, and return its result, passed as JSON.

    An exception comes back as its text, such as "RuntimeError: no running event loop". A child that has not answered
    after `seconds` is killed, and "stuck" comes back; if a signal ended it, "ended by SIGSEGV" and the like. It is
    always waited for. fork: another way to make the child.
    """
    reads, writes = os.pipe()
    if (child := fork()) == 0:
        os.close(reads)
        _answer(work, writes)
    os.close(writes)
    try:
        with open(reads, "rb", buffering=0) as answer:
            ended = b"".join(_until(answer, time.monotonic() + seconds))
    finally:
        os.kill(child, signal.SIGKILL)  # if another signal is already ending it, that one stays on record
        _, status = os.waitpid(child, 0)
    return json.loads(ended) if ended else _unanswered(status)


def _unanswered(status: int) -> str:
    """The words for a child without an answer, by its wait status: our own SIGKILL means that it was stuck."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else signal.SIGKILL
    return "stuck" if number == signal.SIGKILL else f"ended by {signal_name(number)}"


def _answer(work: Callable[[], Any], writes: int) -> NoReturn:
    try:
        told = work()
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    with open(writes, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    os._exit(0)


def _until(answer: Any, deadline: float) -> Iterator[bytes]:
    """The pieces of the answer up to its end; none at all if the end does not come in time."""
    pieces: list[bytes] = []
    while select.select([answer], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not (piece := answer.read(65536)):
            yield from pieces
            return
        pieces.append(piece)


def _send(message: dict[str, Any]) -> None:
    message = {**message, "at": time.monotonic()}
    data = json.dumps(message).encode()
    if len(data) > _MOST:
        raise ValueError(f"emit: got {len(data)} bytes, expected at most {_MOST}; send it in parts")
    if is_too_deep(data, message):
        raise ValueError(f"emit: got lists nested more than {DEEPEST} deep, expected no more; send them flat")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, f"{_folder()}/events")


def _folder() -> str:
    folder = os.environ.get("LAB_CELL")
    if folder is None:
        raise RuntimeError("got no LAB_CELL in the environment, expected to run in a %%python_process cell")
    return folder


# ---- listeners -------------------------------------------------------------------------------------------------------

_SETTLE_SECONDS = 5.0
_IDLE_SECONDS = 0.2


def listeners(count: int, wait_function: WaitFunction, connections: int = 400) -> dict[str, Any]:
    """Start `count` forked processes that wait on one listening socket, make connections, count, and stop them.

    Each runs `wait_function(listening_socket, take)`, which must not return; `take(listening_socket)` accepts one
    connection if one is still there, answers, closes it, and returns whether there was one. The socket does not block;
    a wait function may call `listening_socket.setblocking(True)` to sleep in accept() itself. Each is started when
    those before it sleep, so that they enter the kernel's wait queue in their order.

    The calling process connects, one at a time and only while every listener sleeps, so that each wake-up belongs
    to one connection. Wake-ups are voluntary context switches of all their threads, minus those of idle time.

    Returns numbers and rows for `emit`. Raises `RuntimeError` if a listener ends or never sleeps.
    """
    counts = mmap.mmap(-1, 16 * count)  # for each listener: connections accepted, and failed accept() calls
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening_socket, memoryview(counts).cast("Q") as cells:
        listening_socket.setblocking(False)
        pids: list[int] = []
        try:
            for index in range(count):
                pids.append(_start_listener(listening_socket, wait_function, cells, index))
                _await_sleep(pids)
            return _measure(listening_socket.getsockname(), pids, cells, connections)
        except RuntimeError as error:
            sys.excepthook = show_readers_lines  # the reader's line matters, not ours
            raise error.with_traceback(None) from None
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _start_listener(listening_socket: socket.socket, wait_function: WaitFunction, cells: Counts, index: int) -> int:
    pid = os.fork()
    if pid:
        return pid

    def take(waited_on: socket.socket) -> bool:
        try:
            connection, _ = waited_on.accept()
        except BlockingIOError:
            cells[2 * index + 1] += 1
            return False
        cells[2 * index] += 1
        with connection:
            connection.send(b"!")
        return True

    try:
        wait_function(listening_socket, take)
    except BaseException as error:
        show_readers_lines(type(error), error, error.__traceback__)
    finally:
        os._exit(1)


def _measure(address: tuple[str, int], pids: list[int], cells: Counts, connections: int) -> dict[str, Any]:
    _await_sleep(pids)
    idle, idle_seconds = _idle(pids)
    before, began = [_voluntary_switches(pid) for pid in pids], time.monotonic()
    for _ in range(connections):
        with socket.create_connection(address, timeout=_SETTLE_SECONDS) as connection:
            connection.recv(1)
        _await_sleep(pids)
    seconds = time.monotonic() - began
    switches = [_voluntary_switches(pid) - first for pid, first in zip(pids, before, strict=True)]
    idle_switches = idle / idle_seconds * seconds
    return {
        "connections": connections,
        "wakeups_per_connection": round(max(0.0, sum(switches) - idle_switches) / max(1, connections), 3),
        "idle_switches_per_second": round(idle / idle_seconds, 3),
        "processes": [
            {
                "pid": pid,
                "accepted": cells[2 * index],
                "accept() failed": cells[2 * index + 1],
                "voluntary context switches": switches[index],
            }
            for index, pid in enumerate(pids)
        ],
    }


def _idle(pids: list[int]) -> tuple[int, float]:
    """Voluntary context switches of all listeners while nobody connects, and the seconds that this took."""
    before, began = sum(map(_voluntary_switches, pids)), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    return sum(map(_voluntary_switches, pids)) - before, time.monotonic() - began


def _await_sleep(pids: list[int]) -> None:
    """Wait until every thread of every listener sleeps. A woken thread counts as running even before it runs."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not all(_sleeps(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise RuntimeError(f"got a listener that does not sleep for {_SETTLE_SECONDS:g} s, expected one that waits")
        time.sleep(0.001)


def _sleeps(pid: int) -> bool:
    states = [_stat(f"/proc/{pid}/task/{task}/stat") for task in os.listdir(f"/proc/{pid}/task")]
    if "Z" in states:
        raise RuntimeError("got a listener that ended, expected its wait function not to return")
    return all(state == "S" for state in states)


def _stat(path: str) -> str:
    """The state of a thread, a letter; "S" if it has ended meanwhile, because it never wakes again."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "S"


def _voluntary_switches(pid: int) -> int:
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8", errors="replace") as file:
            total += int(file.read().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total
