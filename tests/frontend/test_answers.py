"""Answers over a real socket: what the fake model says reaches the client as OpenAI's API says it should."""

import dataclasses
from collections.abc import Iterator

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.generation import SamplingParams
from lab_support.model_folder import ModelFolder
from tests.fakes import FakeEngine, next_token
from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving

# Parameters whose default is a number that a client may send; a default of max_tokens depends on the route.
SAMPLING = {
    each.name: each.default for each in dataclasses.fields(SamplingParams) if isinstance(each.default, float | bool)
}

PROMPT = "Once upon a time"
LETTERS = "abcdeFGHIJ"
ASKED = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.open(ModelFolder.open(MODEL_IN_THE_BOX, "dummy"))


def said(tokenizer: Tokenizer, prompt: list[int], count: int) -> str:
    return tokenizer.decode([next_token(prompt, i, 2048) for i in range(count)])


def test_a_completion(fake: FakeServer, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode(PROMPT)
    answer = fake.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 20}).json()
    assert answer["object"] == "text_completion"
    assert answer["model"] == "model"
    assert answer["choices"] == [
        {"index": 0, "text": said(tokenizer, prompt, 20), "logprobs": None, "finish_reason": "length"}
    ]
    assert answer["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": 20,
        "total_tokens": len(prompt) + 20,
    }


def test_every_kind_of_prompt(fake: FakeServer, tokenizer: Tokenizer) -> None:
    texts = [PROMPT, "The server"]
    ids = [tokenizer.encode(text) for text in texts]
    expected = [said(tokenizer, each, 9) for each in ids]
    for prompt, texts_of in ((texts, expected), (ids, expected), (ids[0], expected[:1]), (texts[1:], expected[1:])):
        answer = fake.post("/v1/completions", {"prompt": prompt, "max_tokens": 9}).json()
        assert [choice["text"] for choice in answer["choices"]] == texts_of
    assert answer["usage"]["prompt_tokens"] == len(ids[1])


def test_choices_come_in_order_with_seeds_of_their_own(fake: FakeServer) -> None:
    before = len(fake.engine.generated)
    answer = fake.post("/v1/completions", {"prompt": ["a", "b"], "n": 2, "seed": 5, "max_tokens": 3}).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    asked = fake.engine.generated[before:]
    assert [each.sampling.seed for each in asked] == [5, 6, 5, 6]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 12, "total_tokens": 14}


@pytest.mark.parametrize("echo", [False, True])
def test_a_streamed_completion_is_the_whole_one_in_pieces(fake: FakeServer, echo: bool) -> None:
    request = {"prompt": [PROMPT, "Grüße 🤷"], "max_tokens": 40, "n": 2, "echo": echo}
    whole = fake.post("/v1/completions", request).json()
    answer = fake.post("/v1/completions", request | {"stream": True, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *parsed, usage, done = events(answer.text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert all(event["usage"] is None and event["id"] == usage["id"] for event in parsed)
    for choice in whole["choices"]:
        assert streamed_text(parsed, choice["index"]) == choice["text"]
        assert choice["text"].startswith(request["prompt"][choice["index"] // 2])
        own = [event["choices"][0] for event in parsed if event["choices"][0]["index"] == choice["index"]]
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + ["length"]
    assert "�" not in streamed_text(parsed, 2)[: len("Grüße 🤷")]


def test_a_stream_says_nothing_of_usage_unasked(fake: FakeServer) -> None:
    parsed = events(fake.post("/v1/completions", {"prompt": "a", "stream": True}).text)
    assert not any("usage" in event for event in parsed[:-1])
    assert parsed[-1] == "[DONE]"


def test_a_chat(fake: FakeServer, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode(f"<|system|>Be kind.<|user|>{PROMPT}<|assistant|>", add_special_tokens=False)
    answer = fake.post("/v1/chat/completions", {"messages": CHAT, "max_completion_tokens": 20}).json()
    assert answer["object"] == "chat.completion"
    message = {"role": "assistant", "content": said(tokenizer, prompt, 20)}
    assert answer["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"]["prompt_tokens"] == len(prompt)


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_streamed_chat_is_the_whole_one_in_pieces(fake: FakeServer, logprobs: bool) -> None:
    request = {"messages": CHAT, "max_tokens": 20, "n": 2, "logprobs": logprobs}
    whole = fake.post("/v1/chat/completions", request).json()
    *parsed, done = events(fake.post("/v1/chat/completions", request | {"stream": True}).text)
    assert done == "[DONE]"
    for index in (0, 1):
        assert streamed_text(parsed, index) == whole["choices"][index]["message"]["content"]
        own = [event["choices"][0]["delta"] for event in parsed if event["choices"][0]["index"] == index]
        assert [delta.get("role") for delta in own] == ["assistant"] + [None] * (len(own) - 1)


def test_a_message_in_parts_is_the_message(fake: FakeServer) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    ways = [
        [{"role": "developer", "content": "x"}, {"role": "user", "content": parts}],
        [{"role": "system", "content": "x"}, {"role": "user", "content": "one\ntwo"}],
    ]
    before = len(fake.engine.generated)
    for messages in ways:
        assert fake.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1}).ok
    first, second = fake.engine.generated[before:]
    assert first.prompt_token_ids == second.prompt_token_ids


def test_the_end_token_ends_and_is_not_shown(tokenizer: Tokenizer) -> None:
    with serving(FakeEngine(script=[*tokenizer.encode("On"), 0])) as fake:
        choice = fake.post("/v1/completions", {"prompt": "a"}).json()["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("On", "stop")
        answer = fake.post("/v1/completions", {"prompt": "a", "ignore_eos": True, "max_tokens": 5}).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 5


def test_a_stop_token_is_shown_only_if_asked_for(tokenizer: Tokenizer) -> None:
    script = [tokenizer.encode(each)[0] for each in "One"]
    with serving(FakeEngine(script=script)) as fake:
        request = {"prompt": "a", "stop_token_ids": script[1:2]}
        assert fake.post("/v1/completions", request).json()["choices"][0]["text"] == "O"
        shown = fake.post("/v1/completions", request | {"include_stop_str_in_output": True}).json()
        assert shown["choices"][0]["text"] == "On"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_text_and_the_sequence(fake: FakeServer, stream: bool) -> None:
    """It spans tokens: the fake says its prompt again, and letters of two of its words together are no token."""
    aborted = len(fake.engine.aborted)
    request = {"prompt": LETTERS, "max_tokens": 500, "stop": ["deFG", "never"], "stream": stream}
    answer = fake.post("/v1/completions", request)
    if stream:
        *parsed, done = events(answer.text)
        assert done == "[DONE]"
        assert (streamed_text(parsed), parsed[-1]["choices"][0]["finish_reason"]) == ("abc", "stop")
    else:
        choice = answer.json()["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("abc", "stop")
    assert len(fake.engine.aborted) == aborted + 1
    assert not fake.engine.sequences


def test_what_might_have_been_a_stop_string_is_shown_at_the_end(fake: FakeServer, tokenizer: Tokenizer) -> None:
    request = {"prompt": [tokenizer.encode(each)[0] for each in "abcd"], "max_tokens": 4, "stop": "cd!", "stream": True}
    *parsed, _ = events(fake.post("/v1/completions", request).text)
    assert [event["choices"][0]["text"] for event in parsed] == ["a", "b", "cd"]
    assert parsed[-1]["choices"][0]["finish_reason"] == "length"


def test_no_stop_string_counts_before_min_tokens(fake: FakeServer, tokenizer: Tokenizer) -> None:
    request = {"prompt": tokenizer.encode("a") * 4, "max_tokens": 4, "stop": "a", "min_tokens": 2}
    assert fake.post("/v1/completions", request).json()["choices"][0]["text"] == "aa"


@pytest.mark.parametrize(("least", "expected"), [(0, "a"), (2, "a"), (3, "abcd")])
def test_a_stop_string_may_begin_within_min_tokens(
    fake: FakeServer, tokenizer: Tokenizer, least: int, expected: str
) -> None:
    request = {"prompt": [tokenizer.encode(each)[0] for each in "abcd"], "max_tokens": 4, "stop": "bc"}
    request["min_tokens"] = least
    *parsed, _ = events(fake.post("/v1/completions", request | {"stream": True}).text)
    for choice in (fake.post("/v1/completions", request).json()["choices"][0], {"text": streamed_text(parsed)}):
        assert choice["text"] == expected


def test_logprobs_of_a_completion(fake: FakeServer, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode(PROMPT)
    request = {"prompt": prompt, "max_tokens": len(prompt), "logprobs": 2}
    logprobs = fake.post("/v1/completions", request).json()["choices"][0]["logprobs"]
    tokens = [tokenizer.token_text(token) for token in prompt]
    assert logprobs["tokens"] == tokens
    assert logprobs["text_offset"] == [PROMPT.index("".join(tokens[i:])) for i in range(len(tokens))]
    assert logprobs["token_logprobs"] == [-0.5] * len(tokens)
    assert logprobs["top_logprobs"][0] == {tokens[0]: -0.5, tokenizer.token_text(prompt[0] + 1): -1.5}
    *parsed, _ = events(fake.post("/v1/completions", request | {"stream": True}).text)
    parts = [event["choices"][0]["logprobs"] for event in parsed]
    assert {name: [each for part in parts for each in part[name]] for name in logprobs} == logprobs


def test_logprobs_of_a_chat(fake: FakeServer) -> None:
    request = {"messages": CHAT, "max_tokens": 2, "logprobs": True, "top_logprobs": 1}
    logprobs = fake.post("/v1/chat/completions", request).json()["choices"][0]["logprobs"]
    first = logprobs["content"][0]
    assert first["token"] == "<|system|>"
    assert bytes(first["bytes"]) == b"<|system|>"
    assert first["top_logprobs"] == [{"token": "<|system|>", "logprob": -0.5, "bytes": first["bytes"]}]
    *parsed, _ = events(fake.post("/v1/chat/completions", request | {"stream": True}).text)
    assert [entry for event in parsed for entry in event["choices"][0]["logprobs"]["content"]] == logprobs["content"]


def test_tokenize_and_back(fake: FakeServer, tokenizer: Tokenizer) -> None:
    answer = fake.post("/tokenize", {"prompt": "Grüße 🤷", "return_token_strs": True}).json()
    assert answer["tokens"] == tokenizer.encode("Grüße 🤷")
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == 2048
    assert fake.post("/detokenize", {"tokens": answer["tokens"]}).json() == {"prompt": "Grüße 🤷"}
    chat = fake.post("/tokenize", {"messages": CHAT, "add_generation_prompt": False}).json()
    assert chat["tokens"] == tokenizer.encode(f"<|system|>Be kind.<|user|>{PROMPT}")
    assert fake.post("/tokenize", {"prompt": ""}).json()["tokens"] == []


def test_a_long_prompt_is_tokenized_beside_the_event_loop(fake: FakeServer, tokenizer: Tokenizer) -> None:
    text = "Once upon a time. " * 1000
    assert fake.post("/tokenize", {"prompt": text}).json()["tokens"] == tokenizer.encode(text)
    refused = fake.post("/v1/completions", {"prompt": text})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_what_the_server_says_of_itself(fake: FakeServer) -> None:
    models = fake.get("/v1/models").json()
    assert [card["id"] for card in models["data"]] == ["model"]
    assert fake.get("/v1/models/model").json() == models["data"][0]
    assert fake.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert fake.post("/v1/completions", {"prompt": "a", "model": "other"}).status_code == 404
    assert fake.get("/version").json()["run_id"] == "run-of-a-test"
    assert fake.get("/load").json() == {"server_load": 0}
    for answer in (fake.get("/health"), fake.get("/ping"), fake.post("/ping")):
        assert (answer.status_code, answer.content) == (200, b"")


def test_every_answer_says_who_served_it(fake: FakeServer) -> None:
    answers = [
        fake.get("/health"),
        fake.get("/nowhere"),
        fake.post("/health"),
        fake.post("/v1/completions", data=b"{", headers={"content-type": "application/json"}),
        fake.post("/v1/completions", {"prompt": "a"}),
        fake.post("/v1/completions", {"prompt": "a", "stream": True}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 405, 400, 200, 200]
    assert {answer.headers["x-served-by"] for answer in answers} == {"api-0"}
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    assert [answer.headers.get("x-engine") for answer in answers] == [None] * 4 + ["0", "0"]


def test_a_client_may_name_its_request(fake: FakeServer) -> None:
    answer = fake.post("/v1/completions", {"prompt": "a"}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json()["id"] == "cmpl-mine-1"
    other = fake.get("/health", headers={"x-request-id": 'no" {plain} name'})
    assert other.headers["x-request-id"] != 'no" {plain} name'


def test_a_request_s_own_field_names_it_too(fake: FakeServer) -> None:
    """The header comes first, as in vLLM; and nothing gets into a header that ends one."""
    for path, body, kind in (("/v1/completions", {"prompt": "a"}, "cmpl"), ("/v1/chat/completions", ASKED, "chatcmpl")):
        answer = fake.post(path, body | {"request_id": "mine-2"})
        assert (answer.headers["x-request-id"], answer.json()["id"]) == ("mine-2", kind + "-mine-2")
        answer = fake.post(path, body | {"request_id": "mine-2"}, headers={"x-request-id": "mine-1"})
        assert answer.json()["id"] == kind + "-mine-1"
        for wrong in ("mine\n", "mine\r\nx: y", "", "x" * 129):
            refused = fake.post(path, body | {"request_id": wrong})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "request_id")


def test_an_assistant_s_turn_without_content_is_an_empty_one(fake: FakeServer) -> None:
    before = len(fake.engine.generated)
    for turn in ({"content": None}, {}, {"content": ""}):
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant"} | turn, {"role": "user", "content": "ho"}]
        assert fake.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1}).ok
    assert len({tuple(each.prompt_token_ids) for each in fake.engine.generated[before:]}) == 1


def test_top_logprobs_need_logprobs(fake: FakeServer) -> None:
    for fields, status in (({"top_logprobs": 2}, 400), ({"top_logprobs": 0}, 200), ({"logprobs": False}, 200)):
        answer = fake.post("/v1/chat/completions", ASKED | fields)
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["error"]["param"] == "top_logprobs"


def test_wrong_methods_are_told_the_right_ones(fake: FakeServer) -> None:
    allowed = {
        "/v1/completions": "OPTIONS, POST",
        "/v1/chat/completions": "OPTIONS, POST",
        "/v1/models": "GET, HEAD, OPTIONS",
        "/v1/models/model": "GET, HEAD, OPTIONS",
        "/tokenize": "OPTIONS, POST",
        "/health": "GET, HEAD, OPTIONS",
        "/ping": "GET, HEAD, OPTIONS, POST",
        "/metrics": "GET, HEAD, OPTIONS",
        "/openapi.json": "GET, HEAD, OPTIONS",
    }
    for path, methods in allowed.items():
        answer = fake.request("DELETE", path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == methods
        assert methods in answer.json()["error"]["message"]
    assert fake.request("HEAD", "/health").status_code == 200
    assert fake.get("/v1/completions/").status_code == 405


def test_the_document_names_every_route_and_no_other(fake: FakeServer) -> None:
    paths = fake.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        allowed = fake.request("PATCH", path.replace("{model_id}", "model")).headers["allow"]
        assert {method.upper() for method in operations} == set(allowed.split(", ")) - {"HEAD", "OPTIONS"}
    assert len(paths) == 14


def test_the_defaults_in_the_document_do_what_leaving_them_out_does(fake: FakeServer) -> None:
    asked = {
        "/v1/completions": ("CompletionRequest", {"prompt": "a", "seed": 1}),
        "/v1/chat/completions": (
            "ChatCompletionRequest",
            {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3, "seed": 1},
        ),
    }
    schemas = fake.get("/openapi.json").json()["components"]["schemas"]
    for path, (name, body) in asked.items():
        properties = schemas[name]["properties"].items()
        defaults = {name: each["default"] for name, each in properties if each.get("default") is not None}
        shared = SAMPLING.keys() & dict(properties).keys()
        assert {each: SAMPLING[each] for each in shared}.items() <= defaults.items()
        assert fake.post(path, body | defaults).ok
        assert fake.post(path, body).ok
        explicit, implicit = fake.engine.generated[-2:]
        assert (explicit.prompt_token_ids, explicit.sampling) == (implicit.prompt_token_ids, implicit.sampling)


@pytest.mark.parametrize("length", [500, 3000])
def test_a_chunk_of_any_size_says_how_long_it_is(fake: FakeServer, length: int) -> None:
    prompt = "ab " * (length // 3)
    answer = fake.post("/v1/completions", {"prompt": prompt, "echo": True, "max_tokens": 3, "stream": True})
    assert answer.headers["transfer-encoding"] == "chunked"
    assert streamed_text(events(answer.text)).startswith(prompt)
