"""The fate of a server that loses a process, as `fates.fate` tells it: by real kills of real servers."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from lab_support.experiments.fate_matrix import REPEATS_BY_ACCEPT, cells
from lab_support.experiments.fates import clients as fates_clients
from lab_support.experiments.fates import fate as fates
from lab_support.experiments.fates.ends import Ends
from lab_support.instruments.record.provenance import ROOT

ALL = {"api-0", "api-1", "coordinator", "engine-0", "engine-1"}


@pytest.mark.slow
def test_when_the_launcher_dies_each_child_ends_by_itself():
    found = fates.fate("launcher", fates.STREAMING)
    assert found["noticed"].keys() == ALL
    assert {means for means, _ in found["noticed"].values()} <= {fates.EOF, fates.DEATH_SIGNAL}
    assert (found["clients"], found["server"], found["left"]) == ({"cut off": 4}, "ended", 0)
    assert len(found["lost_ms"]) == 4 and sum(found["again"].values()) == 4
    assert not any(outcome.startswith("done") for outcome in found["again"])


@pytest.mark.slow
def test_an_api_server_takes_its_own_clients_along_a_sibling_serves_them_again_and_it_is_replaced():
    found = fates.fate("api-0", fates.STREAMING)
    [(means, noticed_ms)] = found["noticed"].values()
    assert means == fates.END and found["replaced_ms"] > noticed_ms
    assert found["server"] == "goes on" and found["left"] == 0
    assert found["clients"].keys() == {"cut off", "done"}
    assert found["again"] == {"done by api-1": found["clients"]["cut off"]}
    idle = fates.fate("api-0", fates.IDLE)
    assert (idle["clients"], idle["again"], idle["lost_ms"]) == ({"done": 4}, {}, [])


@pytest.mark.slow
def test_an_engine_core_takes_the_server_along_and_clients_are_told():
    found = fates.fate("engine-0", fates.STREAMING)
    assert found["noticed"]["launcher"][0] == fates.END
    assert (found["clients"], found["server"], found["left"]) == ({"error event": 4}, "ended", 0)
    assert found["replaced_ms"] is None


@pytest.mark.slow
def test_a_client_that_waits_while_the_server_starts_gets_no_answer():
    found = fates.fate("engine-0", fates.STARTING)
    assert (found["clients"], found["server"], found["left"]) == ({"cut off": 1}, "ended", 0)


@pytest.mark.slow
def test_nobody_notices_a_stopped_process_until_a_deadline_does():
    stopped = fates.fate("engine-0", fates.STREAMING, number=signal.SIGSTOP)
    assert stopped["noticed"] == {} and stopped["server"] == "goes on"
    assert stopped["clients"]["still waiting"] >= 1
    assert (stopped["lost_ms"], stopped["again"]) == ([], {}), "the server's end afterwards is not part of it"
    found = fates.fate("engine-0", fates.STREAMING, number=signal.SIGSTOP, watch=30.0, liveness_timeout=5.0)
    assert found["noticed"]["launcher"][0] == fates.DEADLINE
    assert found["server"] == "ended" and Counter(found["clients"])["error event"] >= 1
    assert found["left"] == 0


@pytest.mark.slow
def test_a_stopped_api_server_is_replaced_at_its_deadline_and_a_stopped_launcher_is_missed_by_nobody():
    found = fates.fate("api-0", fates.STREAMING, number=signal.SIGSTOP, watch=30.0, liveness_timeout=5.0)
    assert found["noticed"]["launcher"][0] == fates.DEADLINE and found["replaced_ms"] is not None
    assert found["server"] == "goes on" and found["clients"].keys() == {"cut off", "done"}
    stopped = fates.fate("launcher", fates.IDLE, number=signal.SIGSTOP, watch=1.0, liveness_timeout=5.0)
    assert (stopped["noticed"], stopped["server"], stopped["left"]) == ({}, "goes on", 0)


@pytest.mark.slow
def test_late_clients_that_are_told_of_a_deadline_do_not_outrun_the_launcher():
    found = fates.fate("engine-0", fates.IDLE, number=signal.SIGSTOP, watch=2.0, liveness_timeout=2.5)
    assert found["clients"].keys() - {fates_clients.DONE, fates_clients.WAITING}
    assert found["noticed"]["launcher"][0] == fates.DEADLINE
    assert (found["server"], found["left"]) == ("ended", 0)


@pytest.mark.slow
def test_an_unknown_role_is_named_with_those_that_there_are():
    with pytest.raises(LookupError, match="got 'engine-9', expected one of launcher, engine-0"):
        fates.fate("engine-9", fates.IDLE)


def test_an_unknown_state_or_signal_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"got state 'asleep' .*expected one of idle, streaming, starting"):
        fates.fate("api-0", "asleep")
    with pytest.raises(ValueError, match=r"signal 15, expected .*SIGKILL or SIGSTOP"):
        fates.fate("api-0", fates.IDLE, number=signal.SIGTERM)


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_with_its_last_words():
    with pytest.raises(RuntimeError, match=r"ended before it was ready, and said: .*device"):
        fates.fate("api-0", fates.IDLE, device="paced:no-such-gpu")


def test_each_end_is_noted_in_its_order():
    children = {name: subprocess.Popen(["sleep", "60"]) for name in ("first", "second", "third")}
    try:
        with Ends({name: child.pid for name, child in children.items()}) as ends:
            assert ends.running == ["first", "second", "third"]
            for name in ("second", "first"):
                os.kill(children[name].pid, signal.SIGKILL)
                assert fates._wait_until(lambda name=name: name in ends.at, 10)
            assert ends.running == ["third"] and ends.at["second"] < ends.at["first"]
            assert ends.codes == {"second": -signal.SIGKILL, "first": -signal.SIGKILL}
    finally:
        children["third"].kill()
        for child in children.values():
            child.wait()


# ---- the recorded program --------------------------------------------------------------------------------------------


def test_a_round_has_every_kill_every_stop_with_and_without_a_deadline_and_the_first_ones_the_ways_of_accepting():
    killed = [(each["role"], each["state"]) for each in cells(0) if each["number"] == signal.SIGKILL]
    assert sorted(killed) == sorted((role, state) for role in fates.ROLES for state in fates.STATES)
    stopped = [each for each in cells(0) if each["number"] == signal.SIGSTOP]
    deadlines = Counter(each["role"] for each in stopped if each.get("liveness_timeout"))
    assert deadlines == Counter(fates.ROLES)
    assert [each["accept"] for each in stopped if "accept" in each] == [
        "least-loaded",
        "shared",
        "reuseport",
        "handoff",
        "handoff",
    ]
    assert not any("accept" in each for each in cells(REPEATS_BY_ACCEPT))


@pytest.mark.slow
def test_the_recorded_program_writes_a_sample_for_each_server():
    command = [sys.executable, "-m", "lab_support.experiments.fate_matrix", "--repeats", "1", "--cells", "3"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=kept)
    assert done.returncode == 0, done.stderr
    machine, *servers = [json.loads(line) for line in done.stdout.splitlines()]
    assert machine["what"] == "machine" and machine["cores"] >= 1
    assert [(one["what"], one["role"], one["state"]) for one in servers] == [
        ("fate", "launcher", state) for state in fates.STATES
    ]
    assert all(one["noticed"] and one["left"] == 0 for one in servers)
