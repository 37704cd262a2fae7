"""Receives from a cell's sockets: bytes, their sender, and the messages among them. Runs in the supervisor.

Standard library only. A cell may send anything: data that is no message of ours does no harm here.
"""

import json
import math
import os
import socket
import struct
from contextlib import suppress
from typing import Any

_CREDENTIALS = struct.Struct("iII")
_SO_PASSPIDFD, _SCM_PIDFD = 76, 0x04
"""Linux 6.5 and later: each message brings a pidfd, which identifies its sender even after somebody waited for it."""
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4)
LONGEST = 1 << 18
"""Bytes of one message; a datagram socket takes no more by default (socket(7), wmem_default)."""
DEEPEST = 200
"""The deepest nesting of lists that a message may have; Python's own JSON reader fails at about 1,000."""


def tell_senders(stream: socket.socket, *, pidfds: bool = False) -> None:
    """From now on, data received from `stream` brings the sender's pid and, if the kernel can, a pidfd."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    if pidfds:
        with suppress(OSError):
            stream.setsockopt(socket.SOL_SOCKET, _SO_PASSPIDFD, 1)
    stream.setblocking(False)


def receive(stream: socket.socket, most: int) -> tuple[bytes, int, int]:
    """The next bytes, the pid of the process that sent them, and its pidfd if the kernel gives one, else -1.

    Descriptors that came with them are closed: unix(7), SCM_RIGHTS. Raises `BlockingIOError` if there is nothing.
    """
    data, ancillary, _, _ = stream.recvmsg(most, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    pid, pidfd = 0, -1
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
        elif (level, kind) == (socket.SOL_SOCKET, _SCM_PIDFD):
            pidfd = _numbers(content)[0]
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            _close_all(_numbers(content))
    return data, pid, pidfd


def _numbers(content: bytes) -> tuple[int, ...]:
    count = len(content) // 4
    return struct.unpack(f"{count}i", content[: 4 * count])


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def understood(data: bytes) -> dict[str, Any] | None:
    """The message, checked; None unless it has a form that `script.py` or `sitecustomize.py` sends."""
    try:
        message = json.loads(data)
        if isinstance(message, dict) and _is_ours(message) and not is_too_deep(data, message):
            return message
    except (ValueError, RecursionError):
        pass
    return None


def _is_ours(message: dict[str, Any]) -> bool:
    at = message.get("at")
    if not isinstance(at, int | float) or not math.isfinite(at):
        return False
    if "made" in message:
        bytes.fromhex(str(message.get("command")))
        return message["made"] in ("fork", "exec") and isinstance(message.get("parent"), int)
    return isinstance(message.get("name"), str) or isinstance(message.get("event"), dict)


def is_too_deep(data: bytes, value: object) -> bool:
    """Whether lists and dicts in `value`, decoded from `data`, are nested deeper than `DEEPEST`."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return False
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list | tuple)]
    return bool(level)


def plain(name: str) -> str:
    """A name fit to stand before a line: without line ends, short, and only with characters that UTF-8 can carry."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown[:80] or "?"
