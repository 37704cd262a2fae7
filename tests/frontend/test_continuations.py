"""A completion's text goes on where its prompt ends: with the space that its first word begins with, echoed or not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving
from tests.frontend.text.made_tokenizers import made

TEXT = "and a process 世"


@pytest.fixture(scope="module", params=["byte fallback, legacy", "byte fallback", "Unigram", "byte level"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    made(request.param).save(str(path / "tokenizer.json"))
    config = json.loads((MODEL_IN_THE_BOX / "config.json").read_bytes())
    (path / "config.json").write_text(json.dumps(config))
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return path


@pytest.fixture(scope="module")
def fake(folder: Path) -> Iterator[FakeServer]:
    """Its engine says the prompt again."""
    with serving(model=folder) as server:
        yield server


@pytest.fixture(scope="module")
def ids(folder: Path) -> list[int]:
    """Of a text within another: its first token has the space of its word."""
    tokenizer = Tokenizer.open(ModelFolder.open(folder, "dummy"))
    before = tokenizer.encode("x", False)
    whole = tokenizer.encode(f"x {TEXT.split()[0]}" + TEXT.removeprefix("and"), False)
    return whole[len(before) :]


def visible(logprobs: dict[str, Any]) -> str:
    return "".join(token for token in logprobs["tokens"] if token not in ("<unk>", "<s>", "</s>"))


@pytest.mark.parametrize("echo", [False, True])
def test_the_first_word_keeps_its_space(fake: FakeServer, folder: Path, ids: list[int], echo: bool) -> None:
    tokenizer = Tokenizer.open(ModelFolder.open(folder, "dummy"))
    asked = {"prompt": ids, "max_tokens": len(ids), "echo": echo, "logprobs": 1}
    choice = fake.post("/v1/completions", asked).json()["choices"][0]
    wanted = tokenizer.decode(ids + ids)
    once = tokenizer.decode(ids)
    assert choice["text"] == (wanted if echo else wanted[len(once) :])
    assert choice["text"].lstrip().startswith("and")
    assert visible(choice["logprobs"]) == choice["text"]
    for token, offset in zip(choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"], strict=True):
        assert token in ("<unk>", "<s>") or choice["text"][offset:].startswith(token)
    *parsed, _ = events(fake.post("/v1/completions", asked | {"stream": True}).text)
    assert streamed_text(parsed) == choice["text"]
    plain = fake.post("/v1/completions", {name: asked[name] for name in ("prompt", "max_tokens", "echo")})
    assert plain.json()["choices"][0]["text"] == choice["text"]


def test_an_answer_in_a_chat_begins_anew(fake: FakeServer, folder: Path) -> None:
    tokenizer = Tokenizer.open(ModelFolder.open(folder, "dummy"))
    ids = tokenizer.encode(TEXT, False)
    asked = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": len(ids), "logprobs": True}
    choice = fake.post("/v1/chat/completions", asked).json()["choices"][0]
    assert choice["message"]["content"] == tokenizer.decode(ids)
    assert visible({"tokens": [each["token"] for each in choice["logprobs"]["content"]]}) == tokenizer.decode(ids)
