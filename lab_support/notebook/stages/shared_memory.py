"""Shared memory in use on the whole machine, as the kernel counts it (`Shmem` in /proc/meminfo), and an owner of such
memory that is killed while its children live. Standard library only, because a cell's own processes import it.

Taught in: 05_why_does_cuda_break_after_fork
"""

import ctypes
import json
import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from typing import Any, NoReturn

PACE = 0.02  # seconds from one look to the next


def in_use() -> int:
    """The bytes in use: tmpfs files, memfds and shared anonymous mappings of all processes. Raises `LookupError`."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("Shmem:"):
                return 1024 * int(line.split()[1])
    raise LookupError("got no line Shmem: in /proc/meminfo, expected one: this kernel does not count shared memory")


def watch(seconds: float) -> list[tuple[float, int]]:
    """Call `in_use()` again and again for `seconds`: the time of each look (`time.monotonic`), and the bytes."""
    began = time.monotonic()
    seen = [(began, in_use())]
    while (now := time.monotonic()) < began + seconds:
        seen.append((now, in_use()))
        time.sleep(PACE)
    return seen


# ---- an owner that is killed -----------------------------------------------------------------------------------------

_SIZE = 256 << 20
"""Bytes of the owner's memory, much more than other programs take or return meanwhile."""
GONE = "it ended before its function returned"
"""The word of `killed_owner` on a child that ended before its function returned."""
_SECONDS = 0.3  # for which the memory is watched after each step


def killed_owner(*children: Callable[[int], object]) -> dict[str, Any]:
    """Fork an owner of 256 MiB in a file without a name; it forks a child for each of `children`, which calls that
    function with the file's descriptor and then sleeps. Then kill the owner, and end the children one by one.

    Returns `before`, the bytes in use before all of it, and `steps`: for each of "owner lives", "owner killed",
    "child 1 ended", … its time, the bytes that `watch` saw after it, and the children that then hold the memory by a
    descriptor and by a mapping. `said`: the error of each child's function, "", or `GONE`; a child that is gone has no
    step.
    """
    before, (told, tells) = in_use(), os.pipe()
    alive = [os.pipe() for _ in children]
    if (owner := os.fork()) == 0:
        _own(children, tells, alive)
    os.close(tells)
    with open(told) as pipe:
        ready = {each["number"]: each for each in map(json.loads, pipe)}  # to its end: a child may end without a line
    pids = {number: ready[number]["pid"] for number in sorted(ready)}
    steps = [_step("owner lives", pids.values())]
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    steps.append(_step("owner killed", pids.values()))
    for number, ends in enumerate(alive):
        if pid := pids.pop(number, None):
            _end(pid, ends)
            steps.append(_step(f"child {number + 1} ended", pids.values()))
        else:
            _close(ends)
    said = [ready[number]["said"] if number in ready else GONE for number in range(len(children))]
    return {"before": before, "steps": steps, "said": said}


def map_alone(memory: int) -> None:
    """Map the first page of a file, and close its descriptor. Raises `OSError`.

    By mmap(2) itself, because Python's `mmap` keeps a descriptor of its own.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    address = library.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, memory, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.close(memory)


def _own(children: tuple[Callable[[int], object], ...], tells: int, alive: list[tuple[int, int]]) -> NoReturn:
    memory = os.memfd_create("held")
    os.posix_fallocate(memory, 0, _SIZE)
    for _, keeps in alive:
        os.close(keeps)
    for number, (lives, _) in enumerate(alive):
        if os.fork() == 0:
            _idle(number, children[number], memory, tells, lives)
    os.close(tells)
    while True:
        signal.pause()


def _idle(number: int, work: Callable[[int], object], memory: int, tells: int, lives: int) -> NoReturn:
    """In a child: call `work(memory)`, tell how it went, and sleep until nobody keeps the other end of `lives`."""
    said = ""
    try:
        work(memory)
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    os.write(tells, json.dumps({"number": number, "pid": os.getpid(), "said": said}).encode() + b"\n")
    os.close(tells)  # so that the reader of the other end sees it end
    os.read(lives, 1)
    os._exit(0)


def _step(what: str, pids: Collection[int]) -> dict[str, Any]:
    at, seen = time.monotonic(), watch(_SECONDS)
    holds = {
        "descriptor": [pid for pid in pids if _has_descriptor(pid)],
        "mapping": [pid for pid in pids if "/memfd:held" in _read(f"/proc/{pid}/maps")],
    }
    return {"what": what, "at": at, "seen": seen} | {name: len(found) for name, found in holds.items()}


def _has_descriptor(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    return any(os.readlink(f"{folder}/{number}").startswith("/memfd:held") for number in os.listdir(folder))


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _end(pid: int, pipe: tuple[int, int]) -> None:
    """Close a child's pipe, and wait until the child has ended. It is no child of ours, so by a pidfd."""
    ended = os.pidfd_open(pid)
    _close(pipe)
    select.select([ended], [], [], 5)
    os.close(ended)


def _close(pipe: tuple[int, int]) -> None:
    for end in pipe:
        os.close(end)
