"""Everything that can be heard from a child is an event, and every child is waited for."""

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from lab_support.boundary.after_fork import open_descriptors
from lab_support.boundary.messages import Fatal, Hello
from lab_support.boundary.signals import blocked
from lab_support.supervision import python_processes
from lab_support.supervision.children import Exited, Said, Signalled
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


def highest_with_room_for(further: int) -> int:
    """The limit of descriptors that leaves so many free."""
    used, limit = open_descriptors(), 0
    while further >= 0:
        further -= limit not in used
        limit += 1
    return limit - 1


def test_a_start_that_finds_no_room_leaves_nothing(family) -> None:
    """At each point at which descriptors may run out."""
    children, signals = family
    children.start("spawn", "first", CHILDREN_UNDER_TEST, "wait_for_ever")  # and Python's resource tracker with it
    next(children.events(signals))
    before = open_descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    failures = 0
    while children.running == ["first"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest_with_room_for(failures), limits[1]))
        try:
            children.start("spawn", "second", CHILDREN_UNDER_TEST, "wait_for_ever")
        except OSError:
            failures += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert open_descriptors() == before or children.running == ["first", "second"]
    assert failures >= 4  # a pair for its control connection, two pipes
    assert isinstance(next(children.events(signals)).message, Hello)


def test_without_a_descriptor_for_it_an_end_is_heard_all_the_same(family) -> None:
    """The last descriptor that a start takes is the pidfd: without it Python's own sentinel does."""
    children, signals = family
    children.start("spawn", "first", CHILDREN_UNDER_TEST, "wait_for_ever")
    next(children.events(signals))
    children._children["first"].pidfd, pidfd = None, children._children["first"].pidfd
    os.close(pidfd)
    children.kill()
    assert next(children.events(signals, time.monotonic() + 20)) == Exited("first", -9)


def test_an_end_that_a_stopped_fork_server_does_not_tell_is_heard(family) -> None:
    children, signals = family
    children.start("forkserver", "child", CHILDREN_UNDER_TEST, "wait_for_ever")
    next(children.events(signals))
    os.kill(python_processes.fork_server_pid(), signal.SIGSTOP)
    children.kill()
    ended = next(children.events(signals, time.monotonic() + 20))
    assert isinstance(ended, Exited)
    assert ended.name == "child"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_stopped_process_of_pythons_own_does_not_hold_up_the_end(family, method: str) -> None:
    children, signals = family
    children.start(method, "child", CHILDREN_UNDER_TEST, "wait_for_ever")
    next(children.events(signals))
    own = [pid for pid in (python_processes.resource_tracker_pid(), python_processes.fork_server_pid()) if pid]
    for pid in own:
        os.kill(pid, signal.SIGSTOP)
    children.kill()
    next(children.events(signals))
    python_processes.stop_python_processes()
    for pid in own:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_signal_goes_to_the_child_and_to_nobody_who_has_its_number_later(family) -> None:
    """Under forkserver the number is free as soon as the fork server has waited, and the launcher knows nothing yet.

    The stranger blocks the signal, so that it would be pending at once.
    """
    children, _ = family
    children.start("forkserver", "child", CHILDREN_UNDER_TEST, "fail")
    number = children.pids["child"]
    while os.path.exists(f"/proc/{number}"):
        time.sleep(0.001)
    with blocked([signal.SIGTERM]):
        stranger = stranger_with(number)
    try:
        children.send_signal("child", signal.SIGTERM)
        status = Path(f"/proc/{stranger}/status").read_text()
        assert int(status.partition("ShdPnd:")[2].split()[0], 16) == 0
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def stranger_with(number: int) -> int:
    """A process of ours with this number: a privileged user can set the last pid that the kernel gave."""
    for _ in range(100):
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                last.write(str(number - 1))
        except OSError as error:
            pytest.skip(f"the next process id can't be chosen here: {error.strerror}")
        if (made := os.fork()) == 0:
            signal.pause()
            os._exit(0)
        if made == number:
            return made
        os.kill(made, signal.SIGKILL)
        os.waitpid(made, 0)
    pytest.skip("others always got that process id first")
