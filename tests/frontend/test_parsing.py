"""Bodies to requests: what is refused says what was got and what is allowed; what is unknown is ignored and logged."""

import json
import logging
from contextlib import suppress
from typing import Any

import pytest

from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest
from lab_support.frontend.request.parsing import RequestParser

COMPLETION = RequestParser(CompletionRequest)
CHAT = RequestParser(ChatCompletionRequest)
HELLO = {"messages": [{"role": "user", "content": "hi"}]}


def refused(parser: RequestParser, body: bytes | dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parser.parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": 3}, "temperature", ("got 3", "<= 2")),
        ({"temperature": "hot"}, "temperature", ('got "hot"', "float")),
        ({"top_p": 0}, "top_p", ("got 0", "> 0")),
        ({"top_k": -2}, "top_k", ("got -2", ">= -1")),
        ({"n": 0}, "n", ("got 0", ">= 1")),
        ({"n": 1.5}, "n", ("got 1.5", "int")),
        ({"max_tokens": -1}, "max_tokens", ("got -1", ">= 0")),
        ({"max_tokens": True}, "max_tokens", ("got true", "int")),
        ({"seed": 2**63}, "seed", ("got 9223372036854775808", "<= 9223372036854775807")),
        ({"seed": 10**400}, "seed", ("got 1000", "9223372036854775807")),
        ({"stop": ["a", ""]}, "stop[1]", ('got ""', "length >= 1")),
        ({"stop": ["a"] * 17}, "stop", ("length <= 16",)),
        ({"logprobs": 21}, "logprobs", ("got 21", "<= 20")),
        ({"prompt": {"a": 1}}, "prompt", ('got {"a":1}', "str | array")),
        ({"prompt": [[1, "x"]]}, "prompt[0][1]", ('got "x"', "int")),
        ({"stream": "yes"}, "stream", ('got "yes"', "bool")),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", ("got 1", "bool")),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(fields: dict, param: str, words: tuple[str, ...]) -> None:
    error = refused(COMPLETION, {"prompt": "a"} | fields)
    assert error.param == param
    assert error.message.startswith(param + ": ")
    for word in words:
        assert word in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty"),
        (b"{", "ends early"),
        (b"[1]", "got [1], allowed is `object`"),
        (b"nonsense", "not JSON"),
        (b'{"prompt": "a"} b', "trailing"),
        (b'{"prompt": "a", "temperature": NaN}', "not JSON"),
        (b'{"prompt": "a", "temperature": 1e999}', "out of range"),
        (b'{"prompt": "\xff"}', "not UTF-8: got byte 0xff at position 12"),
        (b'{"prompt": "a", "nobody": "\xc3"}', "not UTF-8"),
        (b'{"prompt": "\\ud800"}', "surrogate"),
        (b'{"prompt": "a", "nobody": "\\udfff"}', "surrogate"),
        (b'{"prompt": ' + b"[" * 20_000, "nested too deeply"),
        (b'{"prompt": "a", "nobody": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested too deeply"),
        (b'{"prompt": "a", "tools": ' + b'{"a":' * 12_000 + b"1" + b"}" * 12_001, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes, words: str) -> None:
    assert words in refused(COMPLETION, body).message


def test_a_missing_field_is_named() -> None:
    assert refused(COMPLETION, {}).param == "prompt"
    assert refused(CHAT, {}).param == "messages"
    assert refused(CHAT, {"messages": [{"role": "user"}]}).param == "messages[0].content"


@pytest.mark.parametrize(
    ("message", "param", "allowed"),
    [
        ({"role": "tool", "content": "x"}, "messages[0].role", "system, developer, user or assistant"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].type", "text"),
        ({"role": "user", "content": None}, "messages[0].content", "required"),
        ({"role": "assistant", "content": 5}, "messages[0].content", "str | array"),
        ({"role": "user", "content": []}, "messages[0].content", "length >= 1"),
    ],
)
def test_a_wrong_message_is_named(message: dict, param: str, allowed: str) -> None:
    error = refused(CHAT, {"messages": [message]})
    assert error.param == param
    assert allowed in error.message


@pytest.mark.parametrize(
    ("parser", "field", "value"),
    [
        (CHAT, "tools", [{"type": "function"}]),
        (CHAT, "tool_choice", "auto"),
        (CHAT, "functions", [{}]),
        (CHAT, "response_format", {"type": "json_object"}),
        (CHAT, "modalities", ["text", "audio"]),
        (CHAT, "audio", {"voice": "x"}),
        (CHAT, "prediction", {}),
        (CHAT, "logit_bias", {"50": 1}),
        (CHAT, "add_generation_prompt", 1),
        (COMPLETION, "suffix", "end"),
        (COMPLETION, "best_of", 2),
        (COMPLETION, "use_beam_search", True),
        (COMPLETION, "tools", [{"type": "function"}]),
        (COMPLETION, "grammar", "root ::= [ab]"),
        (CHAT, "repeat_penalty", 1.1),
        (CHAT, "prompt_embeds", "AAAA"),
        (CHAT, "xtc_probability", True),
    ],
)
def test_a_field_that_would_change_the_answer_is_refused_by_name(parser, field: str, value: object) -> None:
    error = refused(parser, (HELLO if parser is CHAT else {"prompt": "a"}) | {field: value})
    assert error.param == field
    assert error.code == "unsupported_field"


def test_a_refused_field_is_named_before_one_that_is_missing_because_of_it() -> None:
    assert refused(COMPLETION, {"prompt_embeds": "AAAA"}).param == "prompt_embeds"
    assert refused(COMPLETION, HELLO).param == "messages"
    assert refused(CHAT, {"input_ids": [1, 2]}).param == "input_ids"


def test_the_same_fields_are_taken_where_they_change_nothing() -> None:
    harmless = {
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "logit_bias": {},
        "audio": None,
        "repeat_penalty": 1.0,
        "typical_p": 1,
        "echo": False,
    }
    assert CHAT.parse(json.dumps(HELLO | harmless).encode()).messages[0].content == "hi"
    assert COMPLETION.parse(b'{"prompt": "a", "best_of": 3, "n": 3, "suffix": null}').n == 3


def test_unknown_fields_are_logged_once_by_name(caplog: pytest.LogCaptureFixture) -> None:
    parser = RequestParser(CompletionRequest)
    with caplog.at_level(logging.WARNING, "lab.api"):
        for _ in range(3):
            parser.parse(b'{"prompt": "a", "nobody_knows": 1, "user": "me", "store": true, "metadata": {}}')
    assert [record.getMessage() for record in caplog.records] == [
        "ignored a field that this server does not know: 'nobody_knows'"
    ]


def test_unknown_options_of_a_stream_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    parser = RequestParser(CompletionRequest)
    with caplog.at_level(logging.WARNING, "lab.api"):
        parser.parse(b'{"prompt": "a", "stream_options": {"nobody_knows": 1, "include_obfuscation": false}}')
    assert [record.getMessage() for record in caplog.records] == [
        "ignored a field that this server does not know: 'stream_options.nobody_knows'"
    ]


def test_whole_numbers_may_be_written_as_floats() -> None:
    request = COMPLETION.parse(b'{"prompt": [[1.0, 2], [3e0]], "n": 2.0, "temperature": 1, "seed": 7.0}')
    assert (request.prompt, request.n, request.temperature, request.seed) == ([[1, 2], [3]], 2, 1.0, 7)
    assert refused(COMPLETION, b'{"prompt": [1.0], "n": 2.5}').param == "n"


@pytest.mark.parametrize(
    "body",
    [
        '{"prompt": "x", "max_tokens": 1.5, "x": %s}',
        '{"prompt": "x", "max_tokens": 2.0, "x": %s}',
        '{"prompt": %s, "max_tokens": 2.0}',
        '{"prompt": "x", "logit_bias": %s}',
        '{"prompt": "x", "best_of": %s}',
        '{"prompt": "x", "stop": %s}',
        '{"prompt": "x", "x": %s}',
        "%s",
    ],
)
@pytest.mark.parametrize("level", ["[]", '{"a":}'])
def test_no_depth_is_too_much_to_be_told(body: str, level: str) -> None:
    """Neither where a field is wrong, nor where a second look is taken because of a float."""
    for depth in (100, 450, 500, 700, 990, 1000, 2000, 10_000):
        nested = level[:-1] * depth + "1" + level[-1] * depth
        with suppress(ApiError):
            COMPLETION.parse((body % nested).encode())


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        (b'{"prompt": [' + b"[]," * 40_000 + b"[]]}", False),
        (b'{"prompt": [' + b"1," * 600_000 + b"1]}", False),
        (b'{"prompt": "x", "y": [' + b'"a",' * 200_000 + b"1]}", False),
        (b'{"prompt": "x"' + b"".join(b',"%d":1' % number for number in range(40_000)) + b"}", False),
        (b'{"prompt": "' + b"[a],{b}:" * 100_000 + b'"}', True),
        (b'{"prompt": "' + b'\\"[1],' * 100_000 + b'"}', True),
        (b'{"prompt": "' + b"\\\\" * 100_000 + b'", "x": [' + b"[]," * 40_000 + b"[]]}", False),
        (b'{"prompt": [' + b"1," * 500_000 + b"1]}", True),
    ],
)
def test_a_body_of_a_million_small_values_is_refused_before_it_is_read(body: bytes, allowed: bool) -> None:
    """Inside of a text the same signs are text."""
    if allowed:
        COMPLETION.parse(body)
    else:
        assert refused(COMPLETION, body).code == "too_many_values"


def test_what_is_refused_is_shown_by_its_beginning() -> None:
    error = refused(COMPLETION, {"prompt": "x", "stop": [["a" * 1000] * 1000]})
    assert len(error.message) < 250
    assert error.message.startswith('stop[0]: got ["aaaaa')


def test_messages_come_as_the_client_wrote_them_and_once() -> None:
    """A chat template may read fields that this server does not know; another field's odd number changes none."""
    message = {"role": "user", "content": [{"type": "text", "text": "hi", "cache": 1}], "weight": 1.0, "ids": [None]}
    for more in ({}, {"max_tokens": 16.0}):
        request, messages = CHAT.parse_conversation(json.dumps({"messages": [message]} | more).encode())
        assert repr(messages) == repr([message])
        assert isinstance(request, ChatCompletionRequest) and request.messages == []
        assert request.max_tokens == (16 if more else None)


def test_a_message_is_refused_by_its_place_also_beside_an_odd_number() -> None:
    for more in ({}, {"max_tokens": 16.0}):
        body = json.dumps({"messages": [HELLO["messages"][0], {"role": "nobody", "content": "hi"}]} | more).encode()
        with pytest.raises(ApiError) as refused:
            CHAT.parse_conversation(body)
        assert refused.value.param == "messages[1].role"
        assert 'got "nobody"' in refused.value.message
