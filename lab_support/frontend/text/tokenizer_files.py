"""Reads the files next to tokenizer.json: added tokens, the tokens that have roles, and the chat template.

They are read as transformers reads them; `model_folder/token_ids.py` decides which of them takes precedence
(`says_everything`). All of them are UTF-8, whatever the locale.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from tokenizers import AddedToken

from lab_support.config import ConfigError, in_utf8, is_utf8
from lab_support.model_folder.json_object import ModelFolderError, read_object_if_there
from lab_support.model_folder.token_ids import content_of, says_everything

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class TokenizerError(ConfigError):
    """The folder's tokenizer can't be used. The text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The contents of these files.

    added: tokens in the order of their ids, including those that tokenizer.json also has; a new token gets the next
    free id. roles: "bos_token", … → text; chat templates use these names. special: texts of tokens that no answer
    shows. chat_template: Jinja text, or None.
    """

    added: list[AddedToken]
    roles: dict[str, str]
    special: list[str]
    split_special_tokens: bool
    chat_template: str | None

    @staticmethod
    def read(folder: Path, defaults: dict[str, str], own: Collection[str]) -> "TokenizerFiles":
        """Raises `TokenizerError` with one sentence. Each of the files may be missing.

        defaults: roles that apply if tokenizer_config.json does not mention them. own: the texts of tokens that
        tokenizer.json adds itself; added_tokens.json does not change these.
        """
        path = folder / "tokenizer_config.json"
        config = _Entries(path, defaults | read_json(path))
        if not says_everything(config.values):
            legacy = folder / "special_tokens_map.json"
            others = _Entries(legacy, read_json(legacy))
            roles, listed = config.roles() | others.roles(), config.listed() or others.listed()
            named = _named_tokens(folder / "added_tokens.json", {*roles.values(), *listed})
            added = [token for token in named if token.content not in own]
        else:
            roles, listed, added = config.roles(), config.listed(), _numbered_tokens(config)
        split = config.values.get("split_special_tokens") is True
        return TokenizerFiles(added, roles, [*roles.values(), *listed], split, _chat_template(folder, config))


@dataclass(frozen=True, slots=True)
class _Entries:
    """The object of a JSON file, with the properties that two of the files have in common."""

    path: Path
    values: dict[str, Any]

    def roles(self) -> dict[str, str]:
        """Role → token: the usual roles first, then those that only this model has."""
        own = [name for name, value in self.values.items() if name.endswith("_token") and isinstance(value, str | dict)]
        names = dict.fromkeys([*(name for name in _ROLES if self.values.get(name) is not None), *own])
        found = {name: self._text(name, self.values[name]) for name in names}
        extra = self.values.get("extra_special_tokens")
        return found | (
            {name: self._text(name, each) for name, each in extra.items()} if isinstance(extra, dict) else {}
        )

    def listed(self) -> list[str]:
        """Special tokens without a role."""
        names = ("extra_special_tokens", "additional_special_tokens")
        name = next((name for name in names if self.values.get(name)), names[0])
        value = self.values.get(name) or []
        if isinstance(value, dict) and name == names[0]:
            return []  # these have roles
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list of tokens")
        return [self._text(name, each) for each in value]

    def _text(self, name: str, token: Any) -> str:
        text = content_of(token)
        if not _is_text(text):
            raise self._wrong(name, token, "a token's text, or an object that has it as `content`")
        return text

    def _wrong(self, name: str, got: Any, expected: str) -> TokenizerError:
        return _wrong(self.path, name, got, expected)


def _numbered_tokens(config: _Entries) -> list[AddedToken]:
    """`added_tokens_decoder`: id → token."""
    name, path = "added_tokens_decoder", config.path
    numbered = config.values[name]
    if not isinstance(numbered, dict) or not all(each.isdecimal() for each in numbered):
        raise _wrong(path, name, numbered, "an object of tokens by their ids")
    return [_token(path, f"{name}[{number}]", numbered[number]) for number in sorted(numbered, key=int)]


def _token(path: Path, name: str, given: Any) -> AddedToken:
    flags = {flag: given[flag] for flag in _FLAGS if flag in given} if isinstance(given, dict) else {}
    if not isinstance(given, dict) or not _is_text(given.get("content")):
        raise _wrong(path, name, given, "an object with the token's text as `content`")
    if not all(isinstance(value, bool) for value in flags.values()):
        raise _wrong(path, name, given, f"true or false for {', '.join(_FLAGS)}")
    return AddedToken(given["content"], **flags)


def _named_tokens(path: Path, special: set[str]) -> list[AddedToken]:
    """added_tokens.json: text → id."""
    numbers = read_json(path)
    for text, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0 or not _is_text(text):
            raise _wrong(path, repr(text), number, "the token's id, a whole number from 0")
    return [
        AddedToken(text, normalized=text not in special, special=text in special)
        for text in sorted(numbers, key=lambda text: numbers[text])
    ]


def _chat_template(folder: Path, config: _Entries) -> str | None:
    own_file = folder / "chat_template.jinja"
    if own_file.exists():
        return _read_text(own_file)
    given = config.values.get("chat_template")
    if given is None or isinstance(given, str):
        return given
    return dict(_named_templates(config.path, given)).get("default")


def _named_templates(path: Path, given: Any) -> Iterator[tuple[str, str]]:
    """Several templates: an object of texts by name, or a list of objects with `name` and `template`."""
    listed = isinstance(given, list) and all(isinstance(each, dict) for each in given)
    pairs = [(each.get("name"), each.get("template")) for each in given] if listed else []
    pairs = list(given.items()) if isinstance(given, dict) else pairs
    if not pairs or not all(isinstance(name, str) and isinstance(text, str) for name, text in pairs):
        raise _wrong(path, "chat_template", given, "a text, or several with their names")
    yield from pairs


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one if there is no such file."""
    try:
        return read_object_if_there(path)
    except ModelFolderError as error:
        raise TokenizerError(str(error)) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TokenizerError(f"{path}: can't be read ({error.strerror}); fix its permissions") from error
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: got text that is not UTF-8 ({error}); download the file again") from error


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and is_utf8(value)


def _wrong(path: Path, name: str, got: Any, expected: str) -> TokenizerError:
    shown = in_utf8(json.dumps(got, ensure_ascii=False))
    shown = shown if len(shown) <= 80 else shown[:77] + "…"
    return TokenizerError(f"{path}: got {shown} for {name}, expected {expected}; fix the file")
