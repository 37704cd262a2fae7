"""The fate of a server that loses a process, as `fates.fate` tells it: by real kills of real servers."""

import signal
from collections import Counter

import pytest

from lab_support.notebook.stages import fates

ALL = {"api-0", "api-1", "coordinator", "engine-0", "engine-1"}
pytestmark = pytest.mark.slow


def test_when_the_launcher_dies_each_child_ends_by_itself():
    found = fates.fate("launcher", fates.STREAMING)
    assert found["noticed"].keys() == ALL
    assert {means for means, _ in found["noticed"].values()} <= {fates.EOF, fates.DEATH_SIGNAL}
    assert (found["clients"], found["server"], found["left"]) == ({"cut off": 4}, "ended", 0)


def test_an_api_server_takes_its_own_clients_along_and_is_replaced():
    found = fates.fate("api-0", fates.STREAMING)
    assert found["noticed"]["launcher"][0] == fates.END
    assert found["server"] == "goes on" and found["left"] == 0
    assert found["clients"].keys() == {"cut off", "done"}
    assert fates.fate("api-0", fates.IDLE)["clients"] == {"done": 4}


def test_an_engine_core_takes_the_server_along_and_clients_are_told():
    found = fates.fate("engine-0", fates.STREAMING)
    assert found["noticed"]["launcher"][0] == fates.END
    assert (found["clients"], found["server"], found["left"]) == ({"error event": 4}, "ended", 0)


def test_a_client_that_waits_while_the_server_starts_gets_no_answer():
    found = fates.fate("engine-0", fates.STARTING)
    assert (found["clients"], found["server"], found["left"]) == ({"cut off": 1}, "ended", 0)


def test_nobody_notices_a_stopped_process_until_a_deadline_does():
    stopped = fates.fate("engine-0", fates.STREAMING, number=signal.SIGSTOP)
    assert stopped["noticed"] == {} and stopped["server"] == "goes on"
    assert stopped["clients"]["still waiting"] >= 1
    found = fates.fate("engine-0", fates.STREAMING, number=signal.SIGSTOP, watch=30.0, liveness_timeout=5.0)
    assert found["server"] == "ended" and Counter(found["clients"])["error event"] >= 1
    assert found["left"] == 0


def test_an_unknown_role_is_named_with_those_that_there_are():
    with pytest.raises(LookupError, match="got 'engine-9', expected one of launcher, engine-0"):
        fates.fate("engine-9", fates.IDLE)
