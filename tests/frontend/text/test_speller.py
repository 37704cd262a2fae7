"""Tokens with log-probabilities make the text: their texts and their bytes joined, each where its offset says."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.chat_template import ChatTemplate
from lab_support.frontend.text.speller import Spelled, Speller, spell
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.frontend.events import events
from tests.frontend.serving import FakeServer, serving
from tests.frontend.text.made_tokenizers import KINDS, made

TEXT = "Grüße an 世界 🤷🏽‍♀️, done.\n\ttabs  and   spaces; ça va? "


def opened(kind: str) -> Tokenizer:
    return Tokenizer(made(kind), ChatTemplate(None, {}))


def shown(tokenizer: Tokenizer, ids: list[int]) -> str:
    detokenizer = tokenizer.detokenizer()
    return detokenizer.push(ids) + detokenizer.finish()


def spelled(tokenizer: Tokenizer, ids: list[int]) -> list[Spelled]:
    speller = Speller(tokenizer)
    return [speller.push(token_id, index == len(ids) - 1) for index, token_id in enumerate(ids)]


def any_ids(tokenizer: Tokenizer, most: int) -> Iterator[list[int]]:
    """Also those that are no text: cut characters, stray bytes, special tokens, ids beyond the vocabulary."""
    rng = random.Random(7)
    for _ in range(200):
        yield [rng.randrange(tokenizer.vocabulary_size + 2) for _ in range(rng.randrange(1, most))]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_joined_are_the_text_and_stand_where_they_say(kind: str) -> None:
    tokenizer = opened(kind)
    for ids in (tokenizer.encode(TEXT), *any_ids(tokenizer, 30)):
        text = shown(tokenizer, ids)
        tokens = [
            token for i, token in zip(ids, spelled(tokenizer, ids), strict=True) if tokenizer.special_text(i) is None
        ]
        if tokenizer.special_text(ids[-1]) is None:  # after it, what was held back is no token's
            assert "".join(token.text for token in tokens) == text
        for token in tokens:
            assert text[token.offset : token.offset + len(token.text)] == token.text


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_joined_are_the_text(kind: str) -> None:
    tokenizer = opened(kind)
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    ids = [i for i in ids if tokenizer.special_text(i) is None]
    assert b"".join(token.data for token in spelled(tokenizer, ids)).decode() == shown(tokenizer, ids)


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_a_character_stands_with_its_last_byte(kind: str) -> None:
    tokenizer = opened(kind)
    *begun, last = spelled(tokenizer, tokenizer.encode("🦊", add_special_tokens=False))
    assert len(begun) >= 2
    assert {token.text for token in begun} == {""}
    assert last.text == "🦊"
    assert b"".join(token.data for token in (*begun, last)) == "🦊".encode()


@pytest.mark.parametrize("kind", KINDS)
def test_another_token_is_spelled_as_if_it_had_come(kind: str) -> None:
    tokenizer = opened(kind)
    rng = random.Random(3)
    for ids in any_ids(tokenizer, 6):
        one, two = Speller(tokenizer), Speller(tokenizer)
        for token_id in ids:
            one.push(token_id)
            two.push(token_id)
        other = rng.randrange(tokenizer.vocabulary_size)
        assert one.peek(other) == one.peek(other) == two.push(other)


def test_words_keep_the_space_that_they_begin_with() -> None:
    tokenizer = opened("byte fallback")
    ids = tokenizer.encode("and a process", add_special_tokens=False)
    assert "".join(spell(tokenizer, ids)) == "and a process"
    assert tokenizer.token_bytes(tokenizer.encode(" and", add_special_tokens=False)[0]).startswith(b" ")


def test_special_tokens_have_a_name_and_no_place() -> None:
    tokenizer = opened("byte level")
    ids = tokenizer.encode("@#</s>@<s>", add_special_tokens=False)
    assert [(token.text, token.offset) for token in spelled(tokenizer, ids)] == [
        ("@", 0), ("#", 1), ("</s>", 2), ("@", 2), ("<s>", 3),
    ]  # fmt: skip
    assert "".join(spell(tokenizer, ids)) == "@#</s>@<s>"


# ---- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


def prompt() -> list[int]:
    """The fake engine's answer: split characters, special tokens, two in a row, and a cut character at the end."""
    tokenizer = Tokenizer.open(ModelFolder.open(MODEL_IN_THE_BOX, "dummy"))
    parts = [tokenizer.encode(text) for text in ("Hi 🤷世<|user|><|system|> there é", "🤷", ".")]
    return [*parts[0], *parts[1][:-1], *parts[2], *parts[1][:-2]]


def test_a_completion_names_its_tokens_as_they_stand(fake: FakeServer) -> None:
    ids = prompt()
    asked = {"prompt": ids, "max_tokens": len(ids), "logprobs": 5}
    choice = fake.post("/v1/completions", asked).json()["choices"][0]
    tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    visible = [(token, at) for token, at in zip(tokens, offsets, strict=True) if not token.startswith("<|")]
    assert len(visible) == len(ids) - 2
    assert "".join(token for token, _ in visible) == choice["text"]
    assert all(choice["text"][at:].startswith(token) for token, at in visible)
    for token, top in zip(tokens, choice["logprobs"]["top_logprobs"], strict=True):
        assert top[token] == -0.5
        assert len(top) == 5, "each token is one entry, whatever it looks like"
    *parsed, _ = events(fake.post("/v1/completions", asked | {"stream": True}).text)
    streamed: dict[str, list[Any]] = {name: [] for name in choice["logprobs"]}
    for event in parsed:
        for name, values in event["choices"][0]["logprobs"].items():
            streamed[name] += values
    assert streamed == choice["logprobs"]


def test_a_chat_names_its_tokens_with_their_bytes(fake: FakeServer) -> None:
    text = "Hi 🤷世 there"
    asked = {"messages": [{"role": "user", "content": text}], "max_tokens": 16, "logprobs": True, "top_logprobs": 2}
    choice = fake.post("/v1/chat/completions", asked).json()["choices"][0]
    visible = [each for each in choice["logprobs"]["content"] if not each["token"].startswith("<|")]
    said = choice["message"]["content"]
    assert said.startswith(text)
    assert "".join(each["token"] for each in visible) == said
    assert b"".join(bytes(each["bytes"]) for each in visible).decode(errors="replace") == said
