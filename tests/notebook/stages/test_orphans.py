"""Each precaution of a worker, and the event that it does not survive: by real forks and kills."""

import json
import subprocess
import sys

import pytest

from lab_support.notebook.stages import orphans

PROGRAM = """
import ctypes, json, os, select, signal, sys, threading
from lab_support.notebook.stages.orphans import EVENTS, fate

def none(parent, pipe):
    pass

def death_signal(parent, pipe):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

def death_signal_and_look(parent, pipe):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(3)

def end_of_pipe(parent, pipe):
    threading.Thread(target=lambda: (os.read(pipe, 1), os._exit(3)), daemon=True).start()

def pidfd(parent, pipe):
    ended = os.pidfd_open(os.getppid())
    threading.Thread(target=lambda: (select.select([ended], [], []), os._exit(3)), daemon=True).start()

def ends_at_once(parent, pipe):
    os._exit(3)

def raises(parent, pipe):
    raise OSError("no such precaution")

ARMS = (none, death_signal, death_signal_and_look, end_of_pipe, pidfd, ends_at_once, raises)
print(json.dumps([fate(arm, event) for arm in ARMS for event in EVENTS]))
"""
E, L, T = orphans.ENDS, orphans.LIVES_ON, orphans.TOO_EARLY
EXPECTED = {  # killed, killed early, thread ended, sibling, stopped, in C code
    "none": [L, L, L, L, L, L],
    "death_signal": [E, L, T, E, E, E],
    "death_signal_and_look": [E, E, T, E, E, E],
    "end_of_pipe": [E, E, L, L, L, L],
    "pidfd": [E, L, L, E, L, L],
    "ends_at_once": [T, E, T, T, T, T],
    "raises": [T, E, T, T, T, T],
}


@pytest.fixture(scope="module")
def found() -> list[dict[str, str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("precaution", EXPECTED)
def test_every_precaution_has_the_events_that_it_meets_and_those_that_it_misses(found, precaution):
    fates = {each["event"]: each["fate"] for each in found if each["precaution"] == precaution}
    assert fates == dict(zip(orphans.EVENTS, EXPECTED[precaution], strict=True))


def test_the_end_is_told_by_whom_it_came(found):
    how = {(each["precaution"], each["event"]): each["how"] for each in found}
    assert how["death_signal", orphans.KILLED] == how["death_signal", orphans.STOPPED] == "killed by SIGKILL"
    assert how["end_of_pipe", orphans.KILLED] == "exit code 3"
    assert how["none", orphans.KILLED] == ""


def test_who_still_has_the_write_end_is_read_from_the_kernel(found):
    writers = {each["event"]: each["writers"] for each in found if each["precaution"] == "none"}
    assert writers == {
        orphans.KILLED: [],
        orphans.KILLED_EARLY: [],
        orphans.THREAD_ENDED: ["the parent"],
        orphans.SIBLING: ["a sibling"],
        orphans.STOPPED: [],
        orphans.HOLDS_THE_LOCK: [],
    }


@pytest.mark.parametrize(("event", "seconds"), [("the parent retires", 1.0), (orphans.KILLED, -1.0)])
def test_an_unknown_event_and_a_negative_time_are_told(event, seconds):
    with pytest.raises(ValueError, match="expected one of the parent is killed, "):
        orphans.fate(lambda parent, pipe: None, event, seconds=seconds)


def test_a_precaution_that_does_not_return_is_told_and_nothing_of_its_family_is_left():
    program = """
import signal
from pathlib import Path
from lab_support.notebook.stages.orphans import KILLED, fate
try:
    fate(lambda parent, pipe: signal.pause(), KILLED)
except TimeoutError as error:
    print(error)
    print(Path("/proc/thread-self/children").read_text() or "no child")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "got a precaution that still runs after 5 s, expected a function that returns" in done.stdout, done.stderr
    assert done.stdout.splitlines()[1:] == ["no child"]
