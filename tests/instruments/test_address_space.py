"""A forked child has its parent's addresses, a new program has its own: told by real children of each kind."""

import os
import signal
import subprocess
import sys

import pytest

from lab_support.instruments import address_space

needs_random_addresses = pytest.mark.skipif(
    address_space.is_copy(os.getpid(), os.getpid()) is None, reason="this kernel lays out all programs alike"
)


@needs_random_addresses
def test_a_forked_child_is_a_copy() -> None:
    if (child := os.fork()) == 0:
        signal.pause()
    try:
        assert address_space.is_copy(child, os.getpid()) is True
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@needs_random_addresses
def test_a_program_of_its_own_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        assert address_space.is_copy(program.pid, os.getpid()) is False
        program.communicate(b"\n")


def test_of_a_process_that_is_gone_nothing_is_said() -> None:
    assert address_space.is_copy(2**22 + 1, os.getpid()) is None
    assert address_space.stack_top(os.getpid()) is not None
