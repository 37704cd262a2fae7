"""Families of processes whose parent a cell kills: what the stage says of them is what they do."""

import os
import select
import signal
import subprocess
import sys

import pytest

from lab_support.notebook.stages import unwatched


@pytest.fixture(scope="module")
def server():
    family = unwatched.server()
    yield family
    unwatched.end(family)


def test_a_plain_child_outlives_its_parent_and_is_ended_in_the_end():
    plain = unwatched.plain_program()
    os.kill(plain["launcher"], signal.SIGKILL)
    assert unwatched.ending(plain) == -signal.SIGKILL
    assert unwatched.left(plain, 0.3) == ["child"]
    unwatched.end(plain)
    assert unwatched.left(plain) == []


def test_a_server_whose_launcher_is_killed_ends_and_so_does_its_pipe(server):
    pipe = os.open(unwatched.lifeline(server), os.O_RDONLY)
    watch = select.poll()
    watch.register(pipe, select.POLLIN)
    assert watch.poll(100) == []
    os.kill(server["launcher"], signal.SIGKILL)
    assert [event & select.POLLHUP for _, event in watch.poll(5000)] == [select.POLLHUP]
    os.close(pipe)
    assert unwatched.left(server, 5.0) == []
    assert unwatched.ending(server) == -signal.SIGKILL


ASKED_OF_A_PLAIN_PROGRAM = """
from lab_support.notebook.stages import unwatched
plain = unwatched.plain_program()
try:
    unwatched.lifeline(plain)
except LookupError as error:
    print(error)
finally:
    unwatched.end(plain)
"""


def test_a_family_without_such_a_pipe_is_told():
    """In a process of its own, because a test's own worker reads its orders from a pipe, which its children inherit."""
    command = [sys.executable, "-c", ASKED_OF_A_PLAIN_PROGRAM]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("got no pipe that all children read")
