"""Only the launcher reacts to a terminal's signals: its children never end by one, at no moment of their start."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab_support.boundary.messages import Ready
from lab_support.boundary.signals import TO_THE_GROUP, Signals
from lab_support.supervision.children import Said
from tests.boundary.conftest import CHILDREN_UNDER_TEST


@pytest.fixture
def nohup() -> Iterator[None]:
    """As nohup and a shell's `&` leave it."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def test_what_was_ignored_stays_ignored(nohup: None) -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.take() == signal.SIGTERM
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_sigterm_ends_even_where_it_was_ignored() -> None:
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.take() == signal.SIGTERM
    signal.signal(signal.SIGTERM, former)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_signal_to_the_whole_group_ends_no_child_that_is_being_made(family, method: str) -> None:
    children, signals = family
    children.start(method, "child", CHILDREN_UNDER_TEST, "report_signals")
    for number in TO_THE_GROUP:  # it is still far from any code of ours
        for pid in children.pids.values():  # Python's resource tracker among them
            os.kill(pid, number)
    said = next(children.events(signals))
    assert isinstance(said, Said), said
    assert isinstance(said.message, Ready)
    ignored, blocked = (int(said.message.details[mask]) for mask in ("SigIgn", "SigBlk"))
    assert {number for number in TO_THE_GROUP if ignored & 1 << number - 1} == TO_THE_GROUP
    assert blocked == 0
    assert os.waitpid(children.pids["resource-tracker"], os.WNOHANG) == (0, 0)


def test_the_launcher_blocks_nothing_once_a_child_is_made(family) -> None:
    children, _ = family
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    children.start("spawn", "child", CHILDREN_UNDER_TEST, "wait_for_ever")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize("how", ["a subreaper", "PID 1"])
def test_orphans_that_come_to_the_launcher_are_waited_for(how: str) -> None:
    command = [sys.executable, "-m", "tests.boundary.adopter_under_test"]
    if how == "PID 1":
        command = ["unshare", "--pid", "--fork", "--mount-proc", *command]
        may = subprocess.run([*command[:4], "true"], capture_output=True, check=False)
        if may.returncode:
            pytest.skip(f"this user may not make a PID namespace: {may.stderr.decode().strip()}")
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout == "5 orphans came, 0 are left; own: True\n", ended.stderr
