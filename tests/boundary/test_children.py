"""Everything that can be heard from a child is an event, and every child is waited for."""

import os
import signal
import time

from lab_support.boundary.children import Exited, Said, Signalled
from lab_support.boundary.messages import Fatal, Hello
from tests.boundary.conftest import CHILDREN_UNDER_TEST


def test_the_last_word_comes_before_the_end(family) -> None:
    children, signals = family
    children.start("spawn", "unlucky", CHILDREN_UNDER_TEST, "fail")
    events = children.events(signals)
    assert next(events) == Said("unlucky", Fatal("unlucky", "no luck", 2))
    assert next(events) == Exited("unlucky", 2)
    assert children.running == []


def test_a_child_that_dies_before_a_word_is_an_event(family) -> None:
    children, signals = family
    children.start("spawn", "child", CHILDREN_UNDER_TEST, "wait_for_ever")
    children.kill()
    assert [event for event in children.events(signals, time.monotonic() + 5) if isinstance(event, Exited)] == [
        Exited("child", -9)
    ]


def test_a_signal_is_an_event(family) -> None:
    children, signals = family
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    events = children.events(signals)
    assert [next(events), next(events)] == [Signalled(signal.SIGTERM), Signalled(signal.SIGHUP)]


def test_a_deadline_ends_the_wait(family) -> None:
    children, signals = family
    children.start("spawn", "child", CHILDREN_UNDER_TEST, "ignore_sigterm")
    assert isinstance(next(children.events(signals)).message, Hello)
    children.send_signal("child", signal.SIGTERM)
    assert list(children.events(signals, time.monotonic() + 0.2)) == []
    assert children.running == ["child"]


def test_titles_name_the_role(family) -> None:
    children, signals = family
    children.start("spawn", "engine-7", CHILDREN_UNDER_TEST, "wait_for_ever")
    next(children.events(signals))
    with open(f"/proc/{children.pids['engine-7']}/cmdline") as title:
        assert title.read().rstrip("\0") == "lab:engine-7"
