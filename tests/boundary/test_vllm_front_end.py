"""vLLM's engine-core protocol from its other side: what an API server asks vLLM's engine core, and what it is told."""

import random
import struct

import msgspec
import pytest

from lab_support.boundary.messages import Abort, CachedTokens, EngineStats, Failed, Generate, SequenceTokens, Tokens
from lab_support.boundary.vllm.front_end import Asking
from lab_support.boundary.vllm.layouts import ABORT, ADD, body_of
from lab_support.boundary.vllm.outputs import ENGINE_CORE_DEAD, Illegible
from lab_support.boundary.vllm.sampling import sampling_of
from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs
from tests.server.vllm_rs.frames import ANYTHING

pack = msgspec.msgpack.encode
EVERYTHING = SamplingParams(
    **{"max_tokens": 9, "min_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "seed": 7},
    **{"presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.5, "stop_token_ids": (9,)},
    **{"logprobs": 2, "prompt_logprobs": 3},
)


def asking(ends: tuple[int, ...] = (0, 3)) -> Asking:
    return Asking(1, ends)


def generate(sampling: SamplingParams = EVERYTHING, number: int = 4) -> Generate:
    return Generate(1, number, [5, 6, 7], sampling, number)


def output(name: str = "1-4", tokens: tuple[int, ...] = (11,), *more: object) -> list:
    return [name, list(tokens), *more]


def told(client: Asking, *outputs: list, frames: tuple[bytes, ...] = ()) -> list:
    return list(client.messages([pack([0, outputs, None, 1.5]), *frames]))


def array(kind: str, shape: list[int], code: str, *values: float) -> list:
    return [kind, shape, msgspec.msgpack.Ext(3, struct.pack(f"<{len(values)}{code}", *values))]


def test_a_request_is_one_that_our_own_reader_of_vllm_s_bytes_understands():
    kind, body = asking().frames(generate())
    request = body_of([kind, body])
    assert (kind, request.request_id, request.prompt_token_ids, request.client_index) == (ADD, "1-4", [5, 6, 7], 1)
    back = sampling_of(request.sampling_params, 100, 2048)
    assert back.stop_token_ids == (0, 9, 3)  # the end token, the client's, and the model's others
    for name in EVERYTHING.__slots__:
        if name not in ("stop_token_ids", "ignore_eos"):
            assert getattr(back, name) == getattr(EVERYTHING, name), name


def test_no_end_token_ends_a_request_that_ignores_it():
    _, body = asking().frames(generate(SamplingParams(ignore_eos=True)))
    sampling = body_of([ADD, body]).sampling_params
    assert (sampling["_eos_token_id"], sampling["stop_token_ids"], sampling["_all_stop_token_ids"]) == (None, [], [])


def test_an_abort_names_the_request_as_vllm_knows_it():
    kind, body = asking().frames(Abort(1, [4, 5]))
    assert body_of([kind, body]) == ["1-4", "1-5"] and kind == ABORT


def test_the_one_token_of_a_request_for_none_is_not_passed_on():
    client = asking()
    _, body = client.frames(generate(SamplingParams(max_tokens=0)))
    assert body_of([ADD, body]).sampling_params["max_tokens"] == 1
    [tokens] = told(client, output("1-4", (11,), None, None, None, 1))
    assert tokens.sequences == [SequenceTokens(4, [], FinishReason.LENGTH)]


def test_log_probabilities_come_inline_or_in_frames_of_their_own():
    rows = [array("<i4", [2, 2], "i", 11, 40, 12, 12), array("<f4", [2, 2], "f", -2, -0.5, -0.25, -0.25)]
    of_tokens = [*rows, array("<i8", [2], "q", 3, 1), None]
    of_prompt = [["int64", [1, 2], 1], array("float32", [1, 2], "f", -1, -0.5), array("int32", [1], "i", 2), None]
    frame = struct.pack("<2q", 6, 40)
    [tokens] = told(asking(), output("1-4", (11, 12), of_tokens, of_prompt), frames=(frame,))
    [sequence], [prompt] = tokens.sequences, tokens.prompts
    assert sequence.logprobs == [TokenLogprobs(-2.0, 3, [(40, -0.5)]), TokenLogprobs(-0.25, 1, [(12, -0.25)])]
    assert prompt.logprobs == [TokenLogprobs(-1.0, 2, [(40, -0.5)])]


def test_one_that_fails_in_vllm_fails_alone():
    [tokens, failed] = told(asking(), output("1-4", (), None, None, None, 3), output("1-5", (12,)))
    assert isinstance(tokens, Tokens) and tokens.sequences == [SequenceTokens(5, [12])]
    assert failed == Failed(0, 4, "vLLM ended it for the reason 3")


@pytest.mark.parametrize("code", [1, 2])
def test_a_pickle_in_place_of_an_array_is_not_read(code):
    pickled = ["<i4", [1, 1], msgspec.msgpack.Ext(code, b"\x80\x04N.")]
    [failed] = told(asking(), output("1-4", (11,), [pickled] * 3))
    assert isinstance(failed, Failed) and "could be a pickle" in failed.cause


def test_stats_and_cached_tokens():
    client = asking()
    client.ready(pack({"max_model_len": 64, "num_gpu_blocks": 40, "vllm_version": "0.32.0", "further": None}))
    stats = {"num_running_reqs": 2, "num_waiting_reqs": 1, "num_skipped_waiting_reqs": 1, "kv_cache_usage": 0.25}
    cache = {"prefix_cache_stats": {"queries": 5, "hits": 4, "requests": 1}}
    prefill = {"num_prompt_tokens": 5, "num_computed_tokens": 1, "num_cached_tokens": 4}
    outputs = [output("1-4", (11,), *[None] * 9, prefill)]
    frame = pack([0, outputs, stats | cache, 1.5, None, None, None, None, None])
    tokens, found = client.messages([frame])
    assert tokens.cached == [CachedTokens(4, 4)]
    assert isinstance(found, EngineStats)
    assert (found.running, found.waiting, found.free_blocks, found.total_blocks) == (2, 2, 30, 40)
    assert (found.prefix_cache_queries, found.prefix_cache_hits, found.prompt_tokens) == (5, 4, 1)


def test_its_last_words_are_no_outputs(caplog):
    assert list(asking().messages([ENGINE_CORE_DEAD])) == []
    assert "says that it is dead" in caplog.text


def test_whatever_comes_is_read_or_refused_in_words():
    dice = random.Random(5)
    kinds = set()
    for _ in range(4000):
        fields = output("1-4", (11,), *[None] * 10)
        fields[dice.randrange(len(fields))] = dice.choice(ANYTHING)
        if dice.random() < 0.5:
            arrays = [dice.choice([dice.choice(ANYTHING), [dice.choice(ANYTHING) for _ in range(3)]]) for _ in range(3)]
            fields[dice.choice([2, 3])] = arrays
        frame = bytearray(pack([0, [fields], dice.choice([None, *ANYTHING]), 1.5]))
        if dice.random() < 0.2:
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        try:
            kinds |= {type(each) for each in asking().messages([bytes(frame), b"1234"])}
        except Illegible:
            kinds.add(Illegible)
    assert {Illegible, Failed, Tokens} <= kinds
