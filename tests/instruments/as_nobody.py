"""Runs a function in a forked child as the user nobody, without privileges, or in a sandbox like a container's.

Only root can become nobody; the sandbox needs no privilege, but its filter is written for x86-64.
"""

import ctypes
import os
import pickle
import platform
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NOBODY = 65534
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 4, 38, 22
_CLONE_NEWNS, _MS_BIND, _MS_PRIVATE = 0x20000, 0x1000, 0x44000
_KCMP, _SOCKET = 312, 41
_LOAD, _IS, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is written for x86-64")


def as_nobody(function: Callable[[], Any]) -> Any:
    """The result of `function` in a child that has given up root. Raises RuntimeError with its traceback."""
    return _in_a_child(function, _become_nobody)


def as_nobody_with_python(function: Callable[[], Any]) -> Any:
    """The same for a `function` that starts Python processes: the user nobody can reach the interpreter.

    An ordinary user stays the same user.
    """

    def prepare() -> None:
        if os.geteuid():
            return
        open_the_way_to(Path(sys.executable).resolve().parents[1])
        _become_nobody()

    return _in_a_child(function, prepare)


def in_a_sandbox(function: Callable[[], Any]) -> Any:
    """The same, in a child to which kcmp and netlink sockets are forbidden, as some containers forbid them."""
    return _in_a_child(function, _forbid_kcmp_and_netlink)


def _in_a_child(function: Callable[[], Any], prepare: Callable[[], None]) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _answer_and_exit(function, prepare, write)
    os.close(write)
    with open(read, "rb") as answers:
        data = answers.read()
    os.waitpid(child, 0)
    worked, answer = pickle.loads(data)
    if not worked:
        raise RuntimeError(answer)
    return answer


def _answer_and_exit(function: Callable[[], Any], prepare: Callable[[], None], write: int) -> None:
    try:
        prepare()
        answer = True, function()
    except BaseException:  # a forked copy of pytest must not run on
        answer = False, traceback.format_exc()
    with open(write, "wb") as answers:
        pickle.dump(answer, answers)
    os._exit(0)


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    # A process that changed its user owns its own /proc again only as this is set.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def open_the_way_to(folder: Path) -> None:
    """In mounts of this process's own: the folder on the way that only root may enter holds `folder` and no more."""
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & 1]
    if not closed:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    there = os.open(folder, os.O_PATH)
    assert libc.mount(b"none", b"/", None, _MS_PRIVATE, None) == 0
    assert libc.mount(b"none", bytes(closed[-1]), b"tmpfs", 0, b"mode=755") == 0
    folder.mkdir(parents=True)
    assert libc.mount(f"/proc/self/fd/{there}".encode(), bytes(folder), None, _MS_BIND, None) == 0
    os.close(there)


def _forbid_kcmp_and_netlink() -> None:
    """A seccomp filter: seven instructions of (code, jump if so, jump if not, operand)."""
    steps = [
        (_LOAD, 0, 0, 0),  # the number of the call
        (_IS, 4, 0, _KCMP),
        (_IS, 0, 2, _SOCKET),
        (_LOAD, 0, 0, 16),  # its first argument
        (_IS, 1, 0, socket.AF_NETLINK),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EPERM),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
