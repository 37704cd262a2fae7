"""A folder's tokenizer gives the ids, the texts and the roles that transformers gives, whatever its files say."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.tokenizer import Tokenizer, TokenizerError
from tests.frontend.text.made_tokenizers import KINDS, made

TEXTS = (
    "hi there",
    "  two  spaces ",
    "<s>hi</s> so </s>x",
    "Grüße 世界 🤷",
    "",
    "a\n\nb\t1234",
    "<|im_start|>user\nhi<|im_end|> there",
    " <unk> don't",
    "e\u0301 ﷺ",
)
NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


@dataclass
class Folder:
    path: Path


def folder_of(path: Path, kind: str, model_type: str, **files: dict[str, Any]) -> Folder:
    """A folder with a tokenizer of `kind`; files: by the names of the constants above."""
    made(kind).save(str(path / "tokenizer.json"))
    config = json.loads((MODEL_IN_THE_BOX / "config.json").read_bytes()) | {"model_type": model_type}
    written = {"config.json": config} | {globals()[name]: content for name, content in files.items()}
    for name, content in written.items():
        (path / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return Folder(path)


def check_as_transformers(folder: Folder) -> None:
    from transformers import AutoTokenizer

    ours, reference = Tokenizer.open(folder), AutoTokenizer.from_pretrained(folder.path)
    for text in TEXTS:
        for special in (True, False):
            ids = reference(text, add_special_tokens=special)["input_ids"]
            assert ours.encode(text, special) == ids, text
            assert ours.decode(ids) == reference.decode(ids, skip_special_tokens=True), text
    roles = "{{ [bos_token, eos_token, unk_token, pad_token, cls_token, mask_token, image_token] | join('|') }}"
    (folder.path / "chat_template.jinja").write_text(roles)
    chat = [{"role": "user", "content": ""}]
    reference.chat_template = roles
    wanted = reference.apply_chat_template(chat, tokenize=False)
    assert Tokenizer.open(folder).chat_template.render(chat) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_every_kind_of_tokenizer(tmp_path: Path, kind: str, model_type: str) -> None:
    check_as_transformers(folder_of(tmp_path, kind, model_type, CONFIG=NAMED))


@pytest.mark.parametrize(
    ("kind", "model_type", "declared"),
    [
        *[("byte fallback, legacy", "llama", {"tokenizer_class": "LlamaTokenizer"} | more) for more in (
            {}, {"legacy": True}, {"add_prefix_space": False}
        )],
        ("byte fallback", "llama", {"tokenizer_class": "LlamaTokenizerFast", "legacy": True}),
        ("byte fallback, legacy", "mistral", {"tokenizer_class": "LlamaTokenizer"}),
        ("byte level", "llama", {"tokenizer_class": "LlamaTokenizerFast"}),
        ("byte level, prefixed", "llama", {"tokenizer_class": "GPT2Tokenizer"}),
        *[("byte level, prefixed", "qwen2", {"tokenizer_class": name}) for name in (
            "Qwen2Tokenizer", "PreTrainedTokenizerFast", None
        )],
        ("byte level, prefixed", "qwen3", {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ("byte level", "qwen3", {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True}),
    ],
)  # fmt: skip
def test_classes_that_make_the_tokenizer_themselves(
    tmp_path: Path, kind: str, model_type: str, declared: dict[str, Any]
) -> None:
    check_as_transformers(folder_of(tmp_path, kind, model_type, CONFIG=NAMED | declared))


def test_the_roles_that_a_class_gives(tmp_path: Path) -> None:
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": None}
    check_as_transformers(folder_of(tmp_path, "byte fallback", "llama", CONFIG=config))


def numbered(*tokens: str, first: int = 330, **flags: bool) -> dict[str, Any]:
    return {str(first + index): {"content": text} | PLAIN | flags for index, text in enumerate(tokens)}


@pytest.mark.parametrize(
    "files",
    [
        {"CONFIG": NAMED | {"added_tokens_decoder": numbered("<|im_start|>", "<|im_end|>")}},
        {"CONFIG": NAMED | {"added_tokens_decoder": numbered("<|im_end|>", "there", special=False, lstrip=True)}},
        {"CONFIG": NAMED | {"added_tokens_decoder": numbered("<s>", "</s>", first=1, special=False, rstrip=True)}},
        {"CONFIG": NAMED, "ADDED": {"<|im_end|>": 331, "<|im_start|>": 330}},
        {"CONFIG": NAMED, "ADDED": {"</s>": 2, "<new>": 330}, "MAP": {"pad_token": "<new>"}},
        {"CONFIG": {}, "MAP": {"bos_token": "<a>", "eos_token": {"content": "<b>"} | PLAIN}},
        {"MAP": {"bos_token": "<s>", "additional_special_tokens": ["<|im_start|>"]}},
        {"CONFIG": {"bos_token": "<c>"}, "MAP": {"bos_token": "<s>"}},
        {"CONFIG": {"bos_token": "<c>", "added_tokens_decoder": numbered("<q>")}, "MAP": {"bos_token": "<s>"}},
        {"CONFIG": {"additional_special_tokens": ["<|im_start|>", "<s>"], "image_token": "<i>", "add_bos_token": True}},
        {"CONFIG": {"extra_special_tokens": {"image_token": "<|im_end|>"}, "split_special_tokens": True}},
        {"CONFIG": {"extra_special_tokens": ["<|im_end|>"], "pad_token": "[PAD]", "cls_token": "hi"}},
        {"CONFIG": {"eos_token": {"__type": "AddedToken", "content": "</s>"} | PLAIN, "bos_token": None}},
        {"CONFIG": {"bos_token": "", "pad_token": None, "additional_special_tokens": None}},
        {},
    ],
    ids=range(15),
)
def test_the_files_beside_tokenizer_json(tmp_path: Path, files: dict[str, Any]) -> None:
    check_as_transformers(folder_of(tmp_path, "byte level", "llama", **files))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (CONFIG, b"[]", "not an object"),
        (CONFIG, b"{", "not JSON"),
        (CONFIG, b'{"bos_token": "\xe9"}', "not JSON"),
        (CONFIG, b"[" * 100_000, "not JSON"),
        (CONFIG, b'{"bos_token": {"text": "x"}}', "bos_token"),
        (CONFIG, b'{"bos_token": {"content": 7}}', "bos_token"),
        (CONFIG, b'{"bos_token": "\\ud800"}', "bos_token"),
        (CONFIG, b'{"additional_special_tokens": "<a>"}', "additional_special_tokens"),
        (CONFIG, b'{"extra_special_tokens": [7]}', "extra_special_tokens"),
        (CONFIG, b'{"added_tokens_decoder": []}', "added_tokens_decoder"),
        (CONFIG, b'{"added_tokens_decoder": {"x": {"content": "a"}}}', "added_tokens_decoder"),
        (CONFIG, b'{"added_tokens_decoder": {"1": "a"}}', r"added_tokens_decoder\[1\]"),
        (CONFIG, b'{"added_tokens_decoder": {"1": {"content": "a", "special": 1}}}', r"added_tokens_decoder\[1\]"),
        (CONFIG, b'{"chat_template": ["x"]}', "chat_template"),
        (CONFIG, b'{"chat_template": {"default": 7}}', "chat_template"),
        (CONFIG, b'{"chat_template": [{"name": "default"}]}', "chat_template"),
        (CONFIG, b'{"chat_template": 7}', "chat_template"),
        (MAP, b'{"eos_token": []}', "eos_token"),
        (MAP, b'{"eos_token": {}}', "eos_token"),
        (ADDED, b'{"<a>": "7"}', "<a>"),
        (ADDED, b'{"<a>": -1}', "<a>"),
        ("chat_template.jinja", b"\xe9", "not UTF-8"),
    ],
)
def test_a_file_of_another_shape_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    folder = folder_of(tmp_path, "byte level", "llama")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=what) as refusal:
        Tokenizer.open(folder)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_templates_by_name(tmp_path: Path) -> None:
    config = {"chat_template": {"default": "of {{ messages | length }}", "tool_use": "no"}}
    tokenizer = Tokenizer.open(folder_of(tmp_path, "byte level", "llama", CONFIG=config))
    assert tokenizer.chat_template.render([{"role": "user", "content": "x"}]) == "of 1"


def test_every_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    words = {"bos_token": "«é»", "chat_template": "{{ bos_token }}ß世"}
    folder_of(tmp_path, "byte level", "llama", CONFIG=words, MAP={"pad_token": "…"}, ADDED={"ñ": 400})
    program = (
        "import locale, sys; from types import SimpleNamespace; from pathlib import Path;"
        "from lab_support.frontend.text.tokenizer import Tokenizer;"
        "assert locale.getpreferredencoding(False).lower() != 'utf-8';"
        "opened = Tokenizer.open(SimpleNamespace(path=Path(sys.argv[1])));"
        "print(ascii(opened.chat_template.render([{'role': 'user', 'content': ''}])), len(opened.encode('ñ', False)))"
    )
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", program.replace("ñ", "\\xf1"), str(tmp_path)]
    printed = subprocess.run(command, env=plain, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [ascii("«é»ß世"), "1"]
