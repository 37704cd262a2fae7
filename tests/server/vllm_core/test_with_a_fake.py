"""Our API servers before an engine core that speaks as vLLM's does: what goes over, what is refused, how all ends.

The engine core is `fake_vllm.py`, a program of its own that invents tokens; the handshake, the sockets and the bytes
are real.
"""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lab_support.notebook.servers.look import by_name
from tests.kill_trial import living
from tests.running_server import RunningServer, running_server
from tests.server.test_replacement import until
from tests.server.vllm_core.needed import make_fake_vllm

STORY = [5, 6, 7]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fake_vllm(tmp_path_factory.mktemp("fake"))


@pytest.fixture(scope="module")
def server(python: Path) -> Iterator[RunningServer]:
    with running_server(engine_core="vllm", vllm_python=python) as server:
        yield server


def asked(server: RunningServer, prompt: list[int] = STORY, **fields: object) -> dict:
    got = server.post("/v1/completions", {"model": "model", "prompt": prompt, "max_tokens": 3, **fields})
    assert got.status_code == 200, got.text
    return got.json()


def got_by_vllm(server: RunningServer) -> str:
    """The last request that the engine core has got, as Python wrote it into the log."""
    return re.findall(r"fake vLLM got b'\\x00' (.*)", server.said())[-1]


def test_an_answer_has_the_tokens_of_the_engine_core_by_either_api_server(server):
    texts = {asked(server)["choices"][0]["text"] for _ in range(8)}
    assert len(texts) == 1
    assert asked(server)["usage"]["completion_tokens"] == 3


def test_a_request_goes_over_with_each_of_its_parameters(server):
    asked(
        server, temperature=0.5, top_k=4, seed=-1, stop_token_ids=[9], min_tokens=2, presence_penalty=1, cache_salt="s"
    )
    told = got_by_vllm(server)
    for words in (
        *("[5, 6, 7]", "'max_tokens': 3", "'temperature': 0.5", "'top_k': 4", f"'seed': {2**64 - 1}"),
        *("'stop_token_ids': [9]", "'_eos_token_id': 0", "'_all_stop_token_ids': [9, 0]", "'min_tokens': 2"),
        *("'presence_penalty': 1.0", "'repetition_penalty': 1.0"),
    ):
        assert words in told
    assert re.search(r"None, '[0-9a-f]{64}', None", told)  # a digest of the salt
    asked(server, ignore_eos=True)
    assert "'_eos_token_id': None, '_all_stop_token_ids': []" in got_by_vllm(server)


def test_log_probabilities_come_back_as_they_were_sent(server):
    [choice] = asked(server, logprobs=2, temperature=0)["choices"]
    assert choice["logprobs"]["token_logprobs"] == [-1.0] * 3
    assert [len(each) for each in choice["logprobs"]["top_logprobs"]] == [3] * 3  # the token and the two likeliest


def test_no_token_is_passed_on_where_none_is_asked_for(server):
    answer = asked(server, max_tokens=0, echo=True)
    assert answer["usage"]["completion_tokens"] == 0
    assert "'max_tokens': 1" in got_by_vllm(server)


def test_a_request_that_fails_there_fails_alone(server):
    refused = server.post("/v1/completions", {"model": "model", "prompt": [8], "max_tokens": 2})
    assert refused.status_code == 500
    assert "vLLM ended it for the reason 3" in server.said()
    assert asked(server)["usage"]["completion_tokens"] == 3


def test_a_pickle_is_never_read_and_fails_its_request_alone(server):
    got = server.post("/v1/completions", {"model": "model", "prompt": [9], "max_tokens": 2, "logprobs": 0})
    assert got.status_code == 500
    assert "got the extension type 1, which could be a pickle" in server.said()
    assert asked(server)["usage"]["completion_tokens"] == 3


def test_what_is_no_handshake_is_dropped_and_named(server):
    assert server.said().count("got what is no handshake of vLLM's engine core, and dropped it") == 3


def test_a_client_that_leaves_becomes_an_abort(server):
    body = {"model": "model", "prompt": [11], "max_tokens": 5, "stream": True}
    with pytest.raises(requests.Timeout):
        requests.post(server.url + "/v1/completions", json=body, timeout=0.5)
    until(lambda: "fake vLLM got b'\\x01'" in server.said(), every=0.01)


def test_metrics_and_version_tell_of_it(server):
    metrics = by_name(server.get("/metrics").text)
    assert metrics["vllm:kv_cache_usage_perc"] == 0.25
    assert "vLLM 0.32.0" in server.get("/version").text


def test_nobody_is_replaced_because_it_can_t_meet_another(server):
    server.process.send_signal(signal.SIGUSR1)
    until(lambda: "SIGUSR1: vLLM's engine core can't meet other API servers" in server.said(), every=0.01)
    assert asked(server)["usage"]["completion_tokens"] == 3


def test_its_command_line_is_vllm_s_own(server):
    [words] = re.findall(r"fake vLLM started by (.*)", server.said())
    assert "'--headless'" in words and "'--data-parallel-address', '127.0.0.1'" in words
    assert "'--max-num-seqs', '64'" in words and "--block-size" not in words


def test_it_stops_when_it_is_told_to(python):
    with running_server(engine_core="vllm", vllm_python=python) as server:
        assert server.stop() == 0
        assert living(server.directory) == []
        assert "is killed" not in server.said()


@pytest.mark.parametrize("role", ["launcher", "api-0", "engine-0", "first", "core"])
def test_nothing_is_left_whoever_is_killed(python, role):
    with running_server(engine_core="vllm", vllm_python=python, api_server_count=1) as server:
        first = server.facts["details"]["engine-0"]["pid"]
        below = {int(each) for each in Path(f"/proc/{first}/task/{first}/children").read_text().split()}
        [core] = [each for each in below if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
        os.kill({**server.pids, "first": first, "core": core}[role], signal.SIGKILL)
        server.process.wait(30)
        until(lambda: not living(server.directory), every=0.02)
        if role in ("first", "core"):
            assert "lab serve: engine-0 failed: vLLM's engine core" in server.said()


def test_a_death_is_told_to_open_streams(python):
    with running_server(engine_core="vllm", vllm_python=python, api_server_count=1) as server:
        got = server.post("/v1/completions", {"model": "model", "prompt": [7], "max_tokens": 5, "stream": True})
        assert "engine-0 failed: vLLM's engine core" in got.text
        assert server.process.wait(30) == 1


def test_one_that_ends_before_it_is_ready_ends_the_server(python, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "dies early")
    told = pytest.raises(RuntimeError, match="vLLM's engine core never got ready: it exited with code 0")
    with told, running_server(engine_core="vllm", vllm_python=python):
        pass


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"vllm_python": "/nowhere"}, "--vllm-python: got /nowhere, expected the Python of an environment with vllm"),
        ({"vllm_python": "/bin/true"}, "/bin/true has no vllm: it is silent; install it there"),
        ({}, "got vllm, but no --vllm-python"),
        ({"frontend": "vllm-rs"}, "--frontend vllm-rs: got it together with --engine-core vllm"),
        ({"data_parallel_size": 2}, "--data-parallel-size: got it together with --engine-core vllm"),
        ({"device": "paced:8B"}, "--device paced:8B: got it together with --engine-core vllm"),
        ({"batching": "static"}, "--batching static: got it together with --engine-core vllm"),
        ({"engine_core": "own", "vllm_python": "/bin/true"}, "--vllm-python: got it without --engine-core vllm"),
    ],
)
def test_what_can_t_work_is_refused_in_a_sentence(flags, words):
    with pytest.raises(RuntimeError, match=re.escape(words)), running_server(**{"engine_core": "vllm", **flags}):
        pass


def test_another_version_is_used_with_a_warning(tmp_path):
    with running_server(engine_core="vllm", vllm_python=make_fake_vllm(tmp_path, "0.99.0"), torch_threads=2) as server:
        assert "got vllm 0.99.0; the API servers speak as vLLM 0.32 and 0.33 do, which may differ" in server.said()
        assert "--torch-threads: accepted, but changes nothing under --engine-core vllm" in server.said()
