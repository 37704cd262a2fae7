"""vLLM's real engine core behind our API servers: the tokens of our own engine core, and nothing left of it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kill_trial import living
from tests.running_server import RunningServer, running_server
from tests.server.test_replacement import until
from tests.server.vllm_core.needed import VLLM_PYTHON, WITH_VLLM
from tests.server.vllm_rs.test_vllm_rs import QUESTIONS, answer

pytestmark = WITH_VLLM

WITH_CORE = {"engine_core": "vllm", "vllm_python": VLLM_PYTHON, "dtype": "float32", "enforce_eager": True}
DRAWN = {"seeded", "filtered"}  # each engine core has random numbers of its own


@pytest.fixture(scope="module")
def ours() -> Iterator[RunningServer]:
    with running_server(api_server_count=1, dtype="float32") as server:
        yield server


@pytest.fixture(scope="module")
def theirs() -> Iterator[RunningServer]:
    with running_server(**WITH_CORE) as server:
        yield server


@pytest.mark.parametrize("name", sorted(QUESTIONS.keys() - DRAWN))
def test_either_engine_core_gives_the_same_answer(ours, theirs, name):
    mine, found = answer(ours, QUESTIONS[name]), answer(theirs, QUESTIONS[name])
    logprobs, found_logprobs = mine.pop("logprobs"), found.pop("logprobs")
    assert found == mine
    if logprobs:
        assert found_logprobs["tokens"] == logprobs["tokens"]
        one, other = (each["token_logprobs"] for each in (found_logprobs, logprobs))
        assert [each or 0 for each in one] == pytest.approx([each or 0 for each in other], abs=1e-4)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_seed_repeats_an_answer(theirs, name):
    assert answer(theirs, QUESTIONS[name]) == answer(theirs, QUESTIONS[name])


def test_it_stops_in_seconds_and_leaves_nothing(theirs):
    shared = set(os.listdir("/dev/shm"))
    assert theirs.stop() == 0
    assert living(theirs.directory) == []
    assert set(os.listdir("/dev/shm")) <= shared
    assert {each.split("_")[0] for each in os.listdir(theirs.directory)} <= {"torchinductor"}  # what it has compiled


@pytest.mark.parametrize("role", ["launcher", "engine-0", "first", "core"])
def test_nothing_is_left_whoever_is_killed(role: str) -> None:
    with running_server(**WITH_CORE, api_server_count=1) as server:
        pids = {**server.pids, "first": server.facts["details"]["engine-0"]["pid"]}
        titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in living(server.directory)}
        pids["core"] = next(pid for pid, title in titles.items() if title.startswith(b"VLLM::EngineCore"))
        os.kill(pids[role], signal.SIGKILL)
        server.process.wait(60)
        until(lambda: not living(server.directory), within=60, every=0.05)
