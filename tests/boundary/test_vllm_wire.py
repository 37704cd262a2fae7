"""vLLM's engine-core protocol on our messages: what a front end of vLLM's asks, and what it is told."""

import itertools
import random
import struct

import msgspec
import pytest

from lab_support.boundary.messages import (
    Abort,
    CachedTokens,
    EngineReady,
    EngineStats,
    Generate,
    PromptScores,
    SequenceTokens,
    Tokens,
)
from lab_support.boundary.vllm.layouts import ABORT, ADD, ERROR, UTILITY
from lab_support.boundary.vllm.wire import Conversation
from lab_support.generation import FinishReason, TokenLogprobs
from tests.server.vllm_rs.frames import KINDS, SAMPLING, add

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
CONTEXT, VOCABULARY = 64, 2048
NUMBERS = itertools.count(100)


@pytest.fixture
def front_end() -> Conversation:
    return Conversation(3, EngineReady(1, CONTEXT, 40), NUMBERS, VOCABULARY)


def generate(front_end: Conversation, *given: object, **sampling: object) -> Generate:
    [asked], answers = front_end.read(add(*given, **sampling))
    assert answers == [] and isinstance(asked, Generate)
    return asked


def outputs(front_end: Conversation, *sequences: SequenceTokens, **more: object) -> list:
    answer = front_end.write(Tokens(1, list(sequences), **more))
    if answer is None:  # vllm-rs takes an empty one for the end of its engine core
        return []
    index, told, *_ = unpack(answer)
    assert index == 1 and told
    return told


def refusal(front_end: Conversation, frames: list[bytes]) -> str:
    asked, [answer] = front_end.read(frames)
    assert asked == []
    [output] = unpack(answer)[1]
    assert output[5] == ERROR
    return output[18]["message"]


def test_a_request_becomes_ours_with_each_of_its_parameters(front_end):
    asked = generate(front_end, "a", temperature=0.5, top_k=-1, seed=7, stop_token_ids=[9], logprobs=2, min_tokens=3)
    assert (asked.client_index, asked.prompt_token_ids) == (3, [5, 6, 7])
    found = asked.sampling
    assert (found.temperature, found.top_k, found.seed, found.stop_token_ids) == (0.5, 0, 7, (0, 9))
    assert (found.logprobs, found.min_tokens, found.max_tokens) == (2, 3, 8)


def test_the_front_end_says_which_token_ends_a_request(front_end):
    asked = generate(front_end, _eos_token_id=None, stop_token_ids=[9]).sampling
    assert (asked.ignore_eos, asked.stop_token_ids) == (True, (9,))


def test_without_a_limit_an_answer_has_the_context_s_room(front_end):
    assert generate(front_end, max_tokens=None).sampling.max_tokens == CONTEXT - 3
    assert generate(front_end, "b", max_tokens=10_000).sampling.max_tokens == CONTEXT - 3


def test_tokens_are_told_by_the_front_end_s_id_until_the_end(front_end):
    number = generate(front_end, "of a client").request_id
    cached = [CachedTokens(number, 2)]
    [first] = outputs(front_end, SequenceTokens(number, [11]), cached=cached)
    assert first[:3] == ["of a client", [11], None]
    assert (first[11]["num_prompt_tokens"], first[11]["num_cached_tokens"], first[11]["num_computed_tokens"]) == (
        3,
        2,
        1,
    )
    assert outputs(front_end, SequenceTokens(number, [12])) == [["of a client", [12]]]
    [last] = outputs(front_end, SequenceTokens(number, [13], FinishReason.LENGTH))
    assert last[5:] == [FinishReason.LENGTH]
    assert outputs(front_end, SequenceTokens(number, [14])) == []


@pytest.mark.parametrize(("token", "reason"), [(9, [FinishReason.STOP, 9]), (0, [FinishReason.STOP])])
def test_a_stop_token_is_a_reason_and_the_model_s_end_token_is_none(front_end, token, reason):
    number = generate(front_end, stop_token_ids=[9]).request_id
    outputs(front_end, SequenceTokens(number, [8]))
    [last] = outputs(front_end, SequenceTokens(number, [token], FinishReason.STOP))
    assert last[5:] == reason


def test_log_probabilities_are_arrays_as_numpy_and_torch_have_them(front_end):
    number = generate(front_end, logprobs=1, prompt_logprobs=1).request_id
    scores = [TokenLogprobs(-1.0, 2, [(40, -0.5)]), TokenLogprobs(-0.25, 1, [(7, -0.25)])]
    [told] = outputs(
        front_end,
        SequenceTokens(number, [11], None, [TokenLogprobs(-2.0, 3, [(12, -0.125)])]),
        prompts=[PromptScores(number, scores)],
    )
    of_tokens, of_prompt = told[2], told[3]
    assert of_tokens[0][:2] == ["<i4", [1, 2]] and struct.unpack("<2i", of_tokens[0][2].data) == (11, 12)
    assert of_tokens[1][:2] == ["<f4", [1, 2]] and struct.unpack("<2f", of_tokens[1][2].data) == (-2.0, -0.125)
    assert struct.unpack("<1i", of_tokens[2][2].data) == (3,)
    assert of_prompt[0][:2] == ["int32", [2, 2]] and struct.unpack("<4i", of_prompt[0][2].data) == (6, 40, 7, 7)
    assert of_prompt[1][0] == "float32" and struct.unpack("<2i", of_prompt[2][2].data) == (2, 1)


def test_an_abort_ends_it_here_and_what_is_on_its_way_is_dropped(front_end):
    kept, ended = generate(front_end, "kept").request_id, generate(front_end, "ended").request_id
    assert front_end.read([ABORT, pack(["ended", "never heard of"])]) == ([Abort(3, [ended])], [])
    assert front_end.read([ABORT, pack(["ended"])]) == ([], [])
    told = outputs(front_end, SequenceTokens(kept, [1]), SequenceTokens(ended, [2]))
    assert [name for name, *_ in told] == ["kept"]


def test_tokens_of_a_front_end_that_has_ended_are_not_its_successor_s(front_end):
    before = generate(front_end).request_id
    successor = Conversation(3, EngineReady(1, CONTEXT, 40), NUMBERS, VOCABULARY)
    generate(successor)
    assert outputs(successor, SequenceTokens(before, [1])) == []


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (add(logit_bias={5: 3.0}), "logit_bias"),
        (add(structured_outputs={"json": "{}"}), "structured_outputs"),
        (add(invented_tomorrow=1), "invented_tomorrow"),
        (add(temperature=-1.0), "temperature"),
        (add(temperature=float("nan")), "finite"),
        (add(top_p=0.0), "top_p"),
        (add(logprobs=21), "logprobs"),
        (add(seed=2**64 - 1), "seed"),
        (add(stop_token_ids=[VOCABULARY]), "stop_token_ids"),
        (add(stop_token_ids=[-1]), "stop_token_ids"),
        (add(_eos_token_id=VOCABULARY, min_tokens=2), "end token"),
        (add(min_tokens=9), "min_tokens"),
        (add(max_tokens=0), "max_tokens"),
        (add(prompt=[VOCABULARY]), "token id 2048"),
        (add(prompt=[2**63]), "token id"),
        (add(prompt=[]), "token ids"),
        (add(prompt=None), "token ids"),
        (add(prompt=[1] * CONTEXT), "64 tokens"),
        (add(prompt=["a"]), "doesn't send"),
        ([ADD, pack(["a", [1], None, SAMPLING, None, 1.5, {"lora_int_id": 1}, None, None])], "LoRA"),
        ([ADD, pack(["a"])], "doesn't send"),
    ],
)
def test_what_the_engine_core_can_t_do_fails_that_request_alone_by_name(front_end, frames, words):
    assert words in refusal(front_end, frames)
    assert generate(front_end).prompt_token_ids == [5, 6, 7]


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs", "presence_penalty", "repetition_penalty"])
def test_a_stand_in_for_a_gpu_tells_no_probabilities(field):
    front_end = Conversation(3, EngineReady(1, CONTEXT, 40, "paced:x", "stand-in for a GPU"), NUMBERS, VOCABULARY)
    assert field in refusal(front_end, add(**{field: 2}))
    assert generate(front_end, temperature=0.5, seed=3).sampling.seed == 3


def test_an_id_is_given_once_as_long_as_it_is_in_use(front_end):
    number = generate(front_end, "a").request_id
    assert "twice" in refusal(front_end, add("a"))
    outputs(front_end, SequenceTokens(number, [1], FinishReason.LENGTH))
    assert generate(front_end, "a").request_id != number


@pytest.mark.parametrize(("method", "result"), [("is_sleeping", False), ("get_supported_tasks", ["generate"])])
def test_a_call_has_its_result(front_end, method, result):
    _, [answer] = front_end.read([UTILITY, pack([0, 77, method, []])])
    assert unpack(answer)[4] == [77, None, [None, result]]


def test_a_call_that_is_unknown_here_is_answered_too(front_end):
    _, [answer] = front_end.read([UTILITY, pack([0, 78, "sleep", [1]])])
    call_id, failure, result = unpack(answer)[4]
    assert (call_id, result) == (78, None)
    assert "sleep" in failure


def test_counts_of_the_prefix_cache_are_told_as_what_has_come_since(front_end):
    def told(queries: int, hits: int) -> dict:
        stats = EngineStats(1, 2, 3, 30, 40, 0, 0, 0, 0, 0, 0, 0, queries, hits, {})
        return unpack(front_end.write(stats))[2]

    first, second = told(10, 4), told(25, 4)
    assert (first["num_running_reqs"], first["num_waiting_reqs"], first["kv_cache_usage"]) == (2, 3, 0.25)
    assert [
        (each["prefix_cache_stats"]["queries"], each["prefix_cache_stats"]["hits"]) for each in (first, second)
    ] == [
        (10, 4),
        (15, 0),
    ]


def test_no_frame_breaks_a_conversation(front_end):
    dice = random.Random(22)
    for number in range(3000):
        asked, answers = front_end.read(dice.choice(KINDS)(dice, f"r{number % 5}").frames)
        assert all(isinstance(each, Generate | Abort) for each in asked)
        assert all(isinstance(unpack(answer), list) for answer in answers)
    assert front_end.read(add("still here"))[0]
