"""Log-probabilities of prompts over a real socket, in vLLM's names and shapes. The fake engine tells -1, -2, -3, …"""

from collections.abc import Iterator

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.speller import spell
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.fakes import TOLD_AT_ONCE
from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving

PROMPT = "Once upon a time there was a process"
CHAT = [{"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.open(ModelFolder.open(MODEL_IN_THE_BOX, "dummy"))


def ask(fake: FakeServer, **fields) -> dict:
    answer = fake.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 2} | fields)
    assert answer.ok, answer.text
    return answer.json()


def test_echo_with_logprobs_tells_the_prompt_s_before_the_answer_s(fake: FakeServer, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPT)
    assert len(ids) > 2 * TOLD_AT_ONCE, "so that they come in several pieces"
    choice = ask(fake, echo=True, logprobs=2)["choices"][0]
    found = choice["logprobs"]
    texts = spell(tokenizer, ids)
    assert choice["text"].startswith(PROMPT)
    assert found["tokens"] == texts + texts[:2], "the fake says its prompt again"
    assert found["token_logprobs"] == [None, *(-float(place) for place in range(1, len(ids))), -0.5, -0.5]
    assert found["text_offset"] == [len("".join(found["tokens"][:place])) for place in range(len(ids) + 2)]
    assert found["top_logprobs"][0] is None
    assert found["top_logprobs"][1] == {texts[1]: -1.0} | {
        tokenizer.token_text((ids[1] + 1 + i) % 2048): -0.25 - i for i in range(2)
    }
    assert "prompt_logprobs" not in choice


def test_a_streamed_echo_is_the_whole_one_in_pieces(fake: FakeServer) -> None:
    request = {"prompt": [PROMPT, "a"], "n": 2, "max_tokens": 3, "echo": True, "logprobs": 1}
    whole = fake.post("/v1/completions", request).json()["choices"]
    *parsed, done = events(fake.post("/v1/completions", request | {"stream": True}).text)
    assert done == "[DONE]"
    for choice in whole:
        own = [event["choices"][0] for event in parsed if event["choices"][0]["index"] == choice["index"]]
        assert streamed_text(parsed, choice["index"]) == choice["text"]
        for name, entries in choice["logprobs"].items():
            assert [entry for each in own for entry in each["logprobs"][name]] == entries
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + ["length"]


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_0_with_echo_is_the_prompt_alone(fake: FakeServer, tokenizer: Tokenizer, stream: bool) -> None:
    request = {"echo": True, "logprobs": 0, "max_tokens": 0, "stream": stream, "prompt": PROMPT}
    if stream:
        request["stream_options"] = {"include_usage": True}
    answer = fake.post("/v1/completions", request)
    count = len(tokenizer.encode(PROMPT))
    if stream:
        *parsed, usage, _ = events(answer.text)
        text, used = streamed_text(parsed), usage["usage"]
        told = [entry for event in parsed for entry in (event["choices"][0]["logprobs"] or {}).get("tokens", [])]
    else:
        choice = answer.json()["choices"][0]
        text, used, told = choice["text"], answer.json()["usage"], choice["logprobs"]["tokens"]
        assert choice["finish_reason"] == "length"
    assert text == PROMPT
    assert len(told) == count
    assert used == {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}


def test_echo_without_logprobs_asks_for_none(fake: FakeServer) -> None:
    assert ask(fake, echo=True)["choices"][0]["logprobs"] is None
    assert fake.engine.generated[-1].sampling.prompt_logprobs is None
    ask(fake, logprobs=3)
    assert fake.engine.generated[-1].sampling.prompt_logprobs is None


def test_prompt_logprobs_are_by_token_id_beside_the_answer(fake: FakeServer, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPT)
    choice = ask(fake, prompt_logprobs=1)["choices"][0]
    first, second, *_ = choice["prompt_logprobs"]
    assert len(choice["prompt_logprobs"]) == len(ids)
    assert first is None
    best = (ids[1] + 1) % 2048
    assert second == {
        str(ids[1]): {"logprob": -1.0, "rank": 2, "decoded_token": tokenizer.token_text(ids[1])},
        str(best): {"logprob": -0.25, "rank": 1, "decoded_token": tokenizer.token_text(best)},
    }
    assert list(second) == [str(ids[1]), str(best)], "its own token first"
    assert choice["logprobs"] is None
    assert choice["text"] and not choice["text"].startswith(PROMPT)


def test_each_field_gets_as_many_as_it_asked_for(fake: FakeServer) -> None:
    choice = ask(fake, echo=True, logprobs=1, prompt_logprobs=3)["choices"][0]
    assert [len(each) for each in choice["logprobs"]["top_logprobs"][1:]][:3] == [2, 2, 2]
    assert [len(each) for each in choice["prompt_logprobs"][1:]][:3] == [4, 4, 4]
    choice = ask(fake, echo=True, logprobs=3, prompt_logprobs=0)["choices"][0]
    assert {len(each) for each in choice["prompt_logprobs"][1:]} == {1}
    assert len(choice["logprobs"]["top_logprobs"][1]) == 4


def test_a_prompt_of_one_token_has_nothing_before_it(fake: FakeServer) -> None:
    choice = ask(fake, prompt=[70], echo=True, logprobs=1, prompt_logprobs=1)["choices"][0]
    assert choice["prompt_logprobs"] == [None]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.5, -0.5]


def test_a_chat_has_them_beside_its_choices(fake: FakeServer) -> None:
    request = {"messages": CHAT, "max_tokens": 2, "n": 2, "prompt_logprobs": 0}
    answer = fake.post("/v1/chat/completions", request).json()
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert answer["prompt_logprobs"][0] is None
    assert [each["logprob"] for one in answer["prompt_logprobs"][1:4] for each in one.values()] == [-1.0, -2.0, -3.0]
    assert "prompt_logprobs" not in fake.post("/v1/chat/completions", request | {"prompt_logprobs": None}).json()


def test_they_count_as_memory() -> None:
    """A client for which too much is collected loses its answer, and the server goes on."""
    with serving(api_server_memory_mib=1) as fake:
        prompt = [70] * 1500
        refused = fake.post("/v1/completions", {"prompt": prompt, "n": 4, "prompt_logprobs": 20, "max_tokens": 1})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "out_of_memory")
        assert fake.post("/v1/completions", {"prompt": prompt, "prompt_logprobs": 1, "max_tokens": 1}).ok
        fake.until(lambda: fake.memory.held == 0)


def test_usage_so_far_is_in_each_event_of_its_choice(fake: FakeServer, tokenizer: Tokenizer) -> None:
    count = len(tokenizer.encode(PROMPT))
    options = {"include_usage": True, "continuous_usage_stats": True}
    request = {"prompt": [PROMPT, "a"], "max_tokens": 4, "stream": True, "stream_options": options}
    *parsed, usage, _ = events(fake.post("/v1/completions", request).text)
    for index, prompt_tokens in enumerate((count, 1)):
        own = [event["usage"] for event in parsed if event["choices"][0]["index"] == index]
        assert [each["completion_tokens"] for each in own] == sorted(each["completion_tokens"] for each in own)
        assert own[-1] == {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 4,
            "total_tokens": prompt_tokens + 4,
        }
    assert usage["usage"]["completion_tokens"] == 8
    alone = request | {"stream_options": {"continuous_usage_stats": True}}
    assert not any("usage" in event for event in events(fake.post("/v1/completions", alone).text)[:-1])
