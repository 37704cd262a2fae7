"""Runs a function as the user nobody, with no privilege left, in a forked child: only root can do it."""

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534
_PR_SET_DUMPABLE = 4

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_nobody(function: Callable[[], Any]) -> Any:
    """What `function` returned, in a child that has given up root. Raises RuntimeError with its traceback."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _answer_and_exit(function, write)
    os.close(write)
    with open(read, "rb") as answers:
        data = answers.read()
    os.waitpid(child, 0)
    worked, answer = pickle.loads(data)
    if not worked:
        raise RuntimeError(answer)
    return answer


def _answer_and_exit(function: Callable[[], Any], write: int) -> None:
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        # A process that changed its user owns its own /proc again only as this is set.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        answer = True, function()
    except BaseException:  # a forked copy of pytest must not run on
        answer = False, traceback.format_exc()
    with open(write, "wb") as answers:
        pickle.dump(answer, answers)
    os._exit(0)
