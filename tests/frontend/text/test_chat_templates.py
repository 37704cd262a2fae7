"""A conversation's prompt equals transformers', except for the differences listed in `chat_template.py`."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.request.openai_api import ChatCompletionRequest
from lab_support.frontend.request.parsing import RequestParser
from lab_support.frontend.request.prompts import PromptReader
from lab_support.frontend.request.served_model import ServedModel
from lab_support.frontend.text.speller import spell
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.frontend.text.templates_like_public_ones import PARTS, TEXTS

SPECIAL = {
    "bos_token": "<s>",
    "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
    "unk_token": "<unk>",
    "pad_token": None,
    "mask_token": "<mask>",
    "image_token": "<image>",
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
}
"""The tokens of tokenizer_config.json, next to the template."""


def said(*contents: Any, first: str = "user", **fields: Any) -> list[dict[str, Any]]:
    """A conversation in turns; the last message has the further fields."""
    roles = ["system"] * (first == "system") + ["user", "assistant"] * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    messages[-1] |= fields
    return messages


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


CONVERSATIONS = {
    "one turn": said("Hello!"),
    "a system turn": said("Be brief.", "  What is a process?\n", first="system"),
    "several turns": said("Be brief.", "one", "two", "three", "four", "five", first="system"),
    "an answer at the end": said("hi", "so"),
    "an empty content": said(""),
    "empty contents all along": said("", "", "", "", first="system"),
    "white space": said(" \n ", "\t", "\n\nx\n\n"),
    "emoji and other scripts": said("🤷🏽‍♀️ 世界 Ω é", "e\u0301 ﷺ", "\u200f\u202eabc \u00a0"),
    "braces and tags": said("{{ messages }} {% raw %}", "<|im_end|></s><b>&amp;", "[/INST] '\"\\ \\n"),
    "parts": said([part("one"), part("two\nlines")]),
    "parts in several turns": said(
        "sys", [part("a"), part("")], "b", [part("ç", cache_control={"type": "x"})], first="system"
    ),
    "thinking": said("2+2?", "<think>\nhm\n</think>\n\n4", "and 3?", "5", reasoning_content="let me see"),
    "further fields": said("hi", "ho", "hm", name="bob", weight=0.5, tool_calls=[], refusal=None, reasoning="why"),
    "turns that do not alternate": [*said("a", "b"), *said("c", first="system"), *said("d"), *said("e")],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(MODEL_IN_THE_BOX / name, path / name)
    write_config(path, "")
    return path


def write_config(folder: Path, template: str) -> None:
    config = SPECIAL | {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def expected(reference: Any, template: str, messages: list[dict[str, Any]], opening: bool) -> str | None:
    """transformers' text; None where the template refuses. To templates that write texts, the parts come joined."""
    if template in TEXTS:
        messages = [message | {"content": joined(message["content"])} for message in messages]
    try:
        return reference.apply_chat_template(
            messages, chat_template=(TEXTS | PARTS)[template], tokenize=False, add_generation_prompt=opening
        )
    except (jinja2.TemplateError, TypeError):
        return None


def joined(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(each["text"] for each in content)


def prompt_of(reader: PromptReader, messages: list[dict[str, Any]], opening: bool) -> list[int] | None:
    """The server's prompt for a body; None if it refuses with the template's words."""
    body = json.dumps({"messages": messages}).encode()
    _, given = RequestParser(ChatCompletionRequest).parse_conversation(body)
    try:
        return asyncio.run(reader.chat(given, ServedModel("model", 100_000, 100_000), opening))
    except ApiError as error:
        assert "the model's chat template does not take these messages" in error.message
        return None


@pytest.mark.parametrize("template", [*TEXTS, *PARTS])
def test_a_prompt_is_the_one_of_transformers(reference: Any, folder: Path, template: str) -> None:
    write_config(folder, (TEXTS | PARTS)[template])
    tokenizer = Tokenizer.open(ModelFolder.open(folder, "dummy"))
    reader = PromptReader(tokenizer)
    for name, messages in CONVERSATIONS.items():
        for opening in (True, False):
            wanted = expected(reference, template, messages, opening)
            got = prompt_of(reader, messages, opening)
            assert (got and "".join(spell(tokenizer, got))) == wanted, name
            assert got == (wanted and reference(wanted, add_special_tokens=False)["input_ids"]), name
