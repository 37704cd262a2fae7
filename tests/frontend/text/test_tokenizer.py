"""Opening a model folder's tokenizer, its chat template, and texts that are far too long."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.chat_template import ChatTemplate, ChatTemplateError
from lab_support.frontend.text.tokenizer import Tokenizer, TokenizerError


@dataclass
class Folder:
    path: Path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "tokenizer.json").write_bytes((MODEL_IN_THE_BOX / "tokenizer.json").read_bytes())
    return Folder(tmp_path)


def test_a_missing_or_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: No such file"):
        Tokenizer.open(Folder(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.open(Folder(tmp_path))


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": "{{ bos_token }}|{{ messages[0].content }}", "bos_token": "<s>"},
        {"chat_template": "{{ bos_token }}|{{ messages[0].content }}", "bos_token": {"content": "<s>"}},
        {
            "chat_template": [
                {"name": "tool_use", "template": "no"},
                {"name": "default", "template": "{{ bos_token }}|{{ messages[0].content }}"},
            ],
            "bos_token": "<s>",
        },
    ],
)
def test_a_chat_template_is_found_in_each_of_its_shapes(folder: Folder, config: dict) -> None:
    (folder.path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.open(folder).chat_template.render([{"role": "user", "content": "hi"}]) == "<s>|hi"


def test_a_template_file_of_its_own_has_the_last_word(folder: Folder) -> None:
    (folder.path / "tokenizer_config.json").write_text('{"chat_template": "old"}')
    (folder.path / "chat_template.jinja").write_text("new")
    assert Tokenizer.open(folder).chat_template.render([]) == "new"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "has no chat template"),
        ("{% if %}", "is broken"),
        ("{{ raise_exception('alternate, please') }}", "alternate, please"),
        ("{{ messages[0].content.__class__.__mro__ }}", "does not take these messages"),
        ("{{ messages.append(1) }}", "does not take these messages"),
        ("{{ messages[0] + 1 }}", "does not take these messages"),
    ],
)
def test_a_template_that_cannot_say_why(source: str | None, message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        ChatTemplate(source, {}).render([{"role": "user", "content": "hi"}])


def test_a_far_too_long_text_is_given_up_early(folder: Folder) -> None:
    tokenizer = Tokenizer.open(folder)
    asked: list[int] = []

    class Watched(Tokenizer):
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            asked.append(len(text))
            return super().encode(text, add_special_tokens)

    watched = Watched(tokenizer._inner, tokenizer.chat_template)
    text = "Once upon a time. " * 100_000
    assert watched.encode_up_to(text, 100) is None
    assert sum(asked) < 10_000
    just = tokenizer.encode("Once upon a time. " * 1000)
    assert tokenizer.encode_up_to("Once upon a time. " * 1000, len(just)) == just
    assert tokenizer.encode_up_to("Once upon a time. " * 1000, len(just) - 1) is None


def test_what_a_template_makes_can_be_encoded() -> None:
    """Jinja's own escapes name characters that UTF-8 has not, in a prompt or in the words of a refusal."""
    assert ChatTemplate("{{ 'a\\ud800' }}", {}).render([]) == "a\N{REPLACEMENT CHARACTER}"
    with pytest.raises(ChatTemplateError, match="no \N{REPLACEMENT CHARACTER}"):
        ChatTemplate("{{ raise_exception('no \\ud800') }}", {}).render([])
