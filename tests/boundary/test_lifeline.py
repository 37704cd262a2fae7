"""The launcher's children end when it is killed, by any means: the promise of `lifeline.py`."""

import os
import select
import signal
import subprocess
import sys
import time

import pytest

from lab_support.boundary.lifeline import ExitCode, describe_exit
from lab_support.supervision.children import Exited
from tests.boundary.conftest import CHILDREN_UNDER_TEST


def orphans_after_kill(method: str, *whats: str, stop: bool = False) -> list[int]:
    """Start a launcher with children, kill it with SIGKILL; the pids that still run 5 s later."""
    command = [sys.executable, "-m", "tests.boundary.launcher_under_test", method, *whats]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        pids = [int(word) for word in launcher.stdout.readline().split()]
        watched = [os.pidfd_open(pid) for pid in pids]
        if stop:
            for pid in pids[: len(whats)]:
                os.kill(pid, signal.SIGSTOP)
        launcher.kill()
    left = []
    for pid, descriptor in zip(pids, watched, strict=True):
        if not select.select([descriptor], [], [], 5)[0]:  # a pidfd is readable once its process has ended
            left.append(pid)
            os.kill(pid, signal.SIGKILL)
        os.close(descriptor)
    return left


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_children_end_with_a_killed_launcher(method: str) -> None:
    assert orphans_after_kill(method, "wait_for_ever", "ignore_sigterm", "wait_for_ever") == []


def test_a_child_that_holds_the_gil_ends_with_a_killed_launcher() -> None:
    assert orphans_after_kill("spawn", "hold_the_gil") == []


def test_a_stopped_child_ends_with_a_killed_launcher() -> None:
    assert orphans_after_kill("spawn", "wait_for_ever", stop=True) == []


@pytest.mark.parametrize(("last", "code"), [("fail_in_its_last_act", 5), ("lose_a_vital_thread", ExitCode.FAILED)])
def test_an_end_comes_whatever_becomes_of_the_last_words(family, last: str, code: int) -> None:
    """A child that finds no memory for its log, say."""
    children, signals = family
    children.start("spawn", "child", CHILDREN_UNDER_TEST, last)
    events = children.events(signals, time.monotonic() + 20)
    assert next(events) == Exited("child", code)


def test_an_error_that_main_has_no_words_for_ends_the_process_and_is_shown(family, capfd) -> None:
    children, signals = family
    children.start("spawn", "child", CHILDREN_UNDER_TEST, "raise_with_a_thread_that_never_ends")
    events = children.events(signals, time.monotonic() + 20)
    assert next(events) == Exited("child", ExitCode.FAILED)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_ends_are_named() -> None:
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert "is the disk full" in describe_exit(-signal.SIGBUS)
    assert describe_exit(-signal.SIGRTMIN) == "was killed by SIGRTMIN"
    assert describe_exit(-40) == f"was killed by SIGRTMIN+{40 - signal.SIGRTMIN}"
    assert describe_exit(-signal.SIGRTMAX) == "was killed by SIGRTMAX"
    assert describe_exit(-33) == "was killed by signal 33"
    assert describe_exit(ExitCode.REFUSED) == "exited with code 2 (REFUSED)"
    assert describe_exit(77) == "exited with code 77"
