"""The wait of a process that does not go on, as the Linux kernel sees it. Runs in the supervisor; stdlib only.

It reports facts: the state, the system call, the object. `cell_words.py` says what they mean.

`instruments/waiting.py` reports as much of each thread, but it looks twice, half a second apart. A supervisor has no
time for that at a deadline, and can't import it, because Python starts it without this package on its path.
"""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from descendants import stat_fields

_CALLS: dict[str, dict[int, str]] = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 20: "writev", 23: "select", 34: "pause", 35: "nanosleep", 42: "connect",
        43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 72: "fcntl", 73: "flock",
        130: "rt_sigsuspend", 202: "futex", 230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid", 270: "pselect6",
        271: "ppoll", 281: "epoll_pwait", 288: "accept4", 220: "semtimedop", 128: "rt_sigtimedwait",
    },
    "aarch64": {
        63: "read", 64: "write", 66: "writev", 73: "ppoll", 72: "pselect6", 101: "nanosleep", 203: "connect",
        202: "accept", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 260: "wait4", 25: "fcntl",
        32: "flock", 133: "rt_sigsuspend", 98: "futex", 115: "clock_nanosleep", 22: "epoll_pwait", 95: "waitid",
        242: "accept4", 192: "semtimedop", 137: "rt_sigtimedwait",
    },
}  # fmt: skip
_TAKES_DESCRIPTOR = frozenset(
    {"read", "write", "writev", "connect", "accept", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg"}
    | {"fcntl", "flock", "epoll_wait", "epoll_pwait"}
)
_GONE = (FileNotFoundError, ProcessLookupError)


def waits(pids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """For each living process: what its first thread waits for, and which of `pids` hold the object's other end."""
    pids = list(pids)
    found = {pid: wait for pid in pids if (wait := _wait(pid))}
    for wait in found.values():
        if wait.get("object", "").startswith("pipe:"):
            wait["writers" if wait["call"] == "read" else "readers"] = _holders(
                pids, wait["object"], os.O_WRONLY if wait["call"] == "read" else os.O_RDONLY
            )
    return found


def _wait(pid: int) -> dict[str, Any] | None:
    folder = Path(f"/proc/{pid}")
    try:
        state = stat_fields(pid)[0]
        threads = len(os.listdir(folder / "task"))
    except _GONE:
        return None
    wait: dict[str, Any] = {"state": state, "threads": threads, "in": _text(folder / "wchan").strip("0")}
    number, *arguments = _text(folder / "syscall").split() or ["unknown"]
    if not number.lstrip("-").isdigit():
        return wait | {"call": number if number == "running" else ""}
    wait["call"] = _CALLS.get(platform.machine(), {}).get(int(number), "")
    if wait["call"] in _TAKES_DESCRIPTOR:
        wait["descriptor"] = int(arguments[0], 16)
        wait["object"] = _link(folder / "fd" / str(wait["descriptor"]))
    elif wait["call"] in ("wait4", "waitid"):
        wait["awaited"] = _awaited(wait["call"], arguments)
    return wait


def _awaited(call: str, arguments: list[str]) -> int:
    """The pid that is waited for; 0 for any child."""
    first, second = (int(word, 16) for word in arguments[:2])
    pid = first if call == "wait4" else second if first == 1 else 0  # P_PID
    return pid if 0 < pid < 1 << 31 else 0


def _holders(pids: list[int], target: str, mode: int) -> list[int]:
    return [pid for pid in pids if any(_opened(pid, name) == mode for name in _descriptors(pid, target))]


def _descriptors(pid: int, target: str) -> list[str]:
    try:
        return [name for name in os.listdir(f"/proc/{pid}/fd") if _link(Path(f"/proc/{pid}/fd/{name}")) == target]
    except (*_GONE, PermissionError):
        return []


def _opened(pid: int, descriptor: str) -> int:
    """O_RDONLY, O_WRONLY or O_RDWR; -1 if it was closed meanwhile."""
    for line in _text(Path(f"/proc/{pid}/fdinfo/{descriptor}")).splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE
    return -1


def _text(path: Path) -> str:
    """The file's text; "" if this user may not read it, or the process has ended."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return os.fsencode(os.readlink(path)).decode("utf-8", "replace")
    except OSError:
        return ""
