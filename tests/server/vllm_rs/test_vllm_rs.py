"""vLLM's own front end, a program in Rust, before our engine core: the same answers, and the same ends."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_support.notebook.servers.look import by_name
from lab_support.supervision.vllm_rs import accepts
from tests.kill_trial import Streams, living
from tests.running_server import PACED, RunningServer, running_server
from tests.server.test_replacement import until
from tests.server.vllm_rs.needed import WITH_VLLM_RS

pytestmark = WITH_VLLM_RS

STORY = "Once upon a time"
QUESTIONS = {
    "greedy": {"prompt": STORY, "max_tokens": 24, "temperature": 0},
    "seeded": {"prompt": STORY, "max_tokens": 24, "seed": 7},
    "filtered": {"prompt": STORY, "max_tokens": 24, "seed": 8, "top_k": 5, "top_p": 0.8, "min_p": 0.01},
    "penalties": {"prompt": STORY, "max_tokens": 24, "temperature": 0, "presence_penalty": 1, "frequency_penalty": 0.5},
    "repetition": {"prompt": STORY, "max_tokens": 24, "temperature": 0, "repetition_penalty": 1.3},
    "stop string": {"prompt": STORY, "max_tokens": 60, "temperature": 0, "stop": [" good"]},
    "stop token": {"prompt": STORY, "max_tokens": 60, "temperature": 0, "stop_token_ids": [429]},
    "end token": {"prompt": STORY, "max_tokens": 400, "temperature": 0},
    "no end token": {"prompt": STORY, "max_tokens": 400, "temperature": 0, "ignore_eos": True},
    "at least": {"prompt": STORY, "max_tokens": 300, "temperature": 0, "min_tokens": 250},
    "log-probabilities": {"prompt": STORY, "max_tokens": 6, "temperature": 0, "logprobs": 3},
    "echo": {"prompt": STORY, "max_tokens": 3, "temperature": 0, "logprobs": 2, "echo": True},
    "ids": {"prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0},
    "one token": {"prompt": "A", "max_tokens": 1, "temperature": 0, "logprobs": 1},
}


@pytest.fixture(scope="module")
def ours() -> Iterator[RunningServer]:
    with running_server(api_server_count=1) as server:
        yield server


@pytest.fixture(scope="module")
def theirs() -> Iterator[RunningServer]:
    with running_server(frontend="vllm-rs", api_server_count=1) as server:
        yield server


def answer(server: RunningServer, question: dict) -> dict:
    got = server.post("/v1/completions", {"model": "model", **question})
    assert got.status_code == 200, got.text
    [choice] = got.json()["choices"]
    usage = got.json()["usage"]
    counts = usage["prompt_tokens"], usage["completion_tokens"]
    return {"text": choice["text"], "end": choice["finish_reason"], "logprobs": choice["logprobs"], "counts": counts}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_same_answer_by_either_front_end(ours, theirs, question):
    mine, found = answer(ours, question), answer(theirs, question)
    logprobs, found_logprobs = mine.pop("logprobs"), found.pop("logprobs")
    assert found == mine
    if logprobs:
        assert found_logprobs["tokens"] == logprobs["tokens"]
        one, other = (each["token_logprobs"] for each in (found_logprobs, logprobs))
        assert [each is None for each in one] == [each is None for each in other]
        assert [each or 0 for each in one] == pytest.approx([each or 0 for each in other], abs=1e-4)


def test_a_chat_has_the_same_answer(ours, theirs):
    body = {"model": "model", "messages": [{"role": "user", "content": "Who is Tim?"}], "max_tokens": 20}
    texts = {
        server.post("/v1/chat/completions", body | {"temperature": 0}).json()["choices"][0]["message"]["content"]
        for server in (ours, theirs)
    }
    assert len(texts) == 1


def test_what_the_engine_core_does_not_have_is_refused_and_nothing_else_suffers(theirs):
    refused = theirs.post("/v1/completions", {"model": "model", "prompt": STORY, "logit_bias": {"5": 3}})
    assert refused.status_code == 400
    assert "got logit_bias, which this engine core does not have" in refused.text
    assert answer(theirs, QUESTIONS["greedy"])["end"] == "length"


def test_it_is_known_from_proc_when_it_accepts(theirs):
    pid = theirs.pids["api-0"]
    assert Path(f"/proc/{pid}/comm").read_text().strip() == "vllm-rs"
    sockets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
    inodes = [int(name[8:-1]) for name in sockets if name.startswith("socket:[")]
    assert sum(accepts(pid, inode) for inode in inodes) >= 1
    assert not accepts(theirs.pids["launcher"], inodes[0])


def test_a_key_is_asked_for_and_stands_in_no_command_line() -> None:
    with running_server(frontend="vllm-rs", api_server_count=1, api_key="sesame", device="paced:8B") as server:
        key = {"Authorization": "Bearer sesame"}
        assert [server.get("/v1/models", headers=headers).status_code for headers in ({}, key)] == [401, 200]
        assert "sesame" not in Path(f"/proc/{server.pids['api-0']}/cmdline").read_text()


def test_clients_that_leave_free_their_blocks(theirs):
    for _ in range(20):
        body = {"model": "model", "prompt": STORY, "max_tokens": 1900, "ignore_eos": True, "stream": True}
        with theirs.post("/v1/completions", body, stream=True) as got:
            next(got.iter_lines())
    until(lambda: by_name(theirs.get("/metrics").text)["vllm:kv_cache_usage_perc"] == 0, every=0.05)


def test_one_that_dies_is_replaced_and_all_are_on_sigusr1() -> None:
    with running_server(frontend="vllm-rs", api_server_count=2, data_parallel_size=2, **PACED) as server:
        before = server.pids["api-0"]
        streams = Streams(server.url, 3, tokens=300)
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "all API servers have been replaced" in server.said(), every=0.02)
        assert streams.join() == ["done"] * 3
        until(lambda: before not in living(server.directory), every=0.02)
        (victim, *_) = [pid for pid in living(server.directory) if Path(f"/proc/{pid}/comm").read_text() == "vllm-rs\n"]
        os.kill(victim, signal.SIGKILL)
        until(lambda: "was killed by SIGKILL; a new one starts" in server.said(), every=0.02)
        until(lambda: server.said().count("INFO api-") == 5 + 2, every=0.02)  # ready: 2, 2 and 1; and 2 replaced
        assert answer(server, QUESTIONS["greedy"])["end"] == "length"
        assert server.stop() == 0


@pytest.mark.parametrize("role", ["launcher", "api-0", "engine-0"])
def test_nothing_is_left_of_it_whoever_is_killed(role: str) -> None:
    with running_server("--no-restart-api-servers", frontend="vllm-rs", api_server_count=1) as server:
        Streams(server.url, 2)
        os.kill(server.pids[role], signal.SIGKILL)
        server.process.wait(30)
        until(lambda: not living(server.directory), every=0.02)


@pytest.mark.parametrize(
    ("path", "words"), [("/nowhere", "expected the program vllm-rs"), ("/bin/true", "is no vllm-rs that can run here")]
)
def test_a_program_that_is_none_is_refused_in_a_sentence(path, words):
    with pytest.raises(RuntimeError, match=words), running_server(frontend=f"vllm-rs:{path}"):
        pass


def test_flags_that_it_does_not_have_are_named_in_the_log() -> None:
    with running_server(frontend="vllm-rs", api_server_count=1, max_body_bytes=1000, device="paced:8B") as server:
        assert "--max-body-bytes: accepted, but changes nothing under --frontend vllm-rs" in server.said()
