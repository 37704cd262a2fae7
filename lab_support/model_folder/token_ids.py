"""Token ids in the tokenizer's files: the end token's and the highest; and which file names the tokens' roles.

Read without the `tokenizers` library, which only API servers load; they also report errors in these files.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab_support.model_folder.json_object import read_object_if_there

_ADDED_TOKENS = re.compile(rb'"added_tokens"\s*:\s*(?=\[)')


class TokenIds:
    """Token ids of one folder. Raises `ModelFolderError` if a file other than tokenizer.json is not a JSON object."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tokenizer.json"
        self._config = read_object_if_there(folder / "tokenizer_config.json")
        self._map = read_object_if_there(folder / "special_tokens_map.json")
        self._numbers = read_object_if_there(folder / "added_tokens.json")

    @property
    def end_token(self) -> int | None:
        """None if no file names an end token, or if the tokenizer doesn't have it."""
        text = self._end_token_text()
        if text is None:
            return None
        found = next((number for content, number in self._added() if content == text), None)
        return self._own().get(text) if found is None else found

    def highest(self) -> tuple[int, str]:
        """The highest id that a text can become, and its token; -1 if there is none."""
        tokens = (*self._own().items(), *self._added())
        return max(((number, text) for text, number in tokens), default=(-1, ""))

    def plain(self, vocab_size: int, ends: Collection[int]) -> list[int]:
        """Ids of tokens that are printable ASCII by themselves, without special ones; if there are none, of all but
        the end tokens. At least one."""
        added = {number for _, number in self._added()}
        own = {number for text, number in self._own().items() if _is_plain(text) and number < vocab_size}
        return sorted(own - added - set(ends)) or sorted(set(range(vocab_size)) - set(ends)) or [0]

    def _end_token_text(self) -> str | None:
        config, others = _content(self._config.get("eos_token")), _content(self._map.get("eos_token"))
        return config if says_everything(self._config) else others or config

    def _added(self) -> Iterator[tuple[str, int]]:
        """Added tokens and their ids. Only this part of tokenizer.json is parsed, because the rest may be 10 MB."""
        for token in self._array_in_tokenizer():
            if isinstance(token, dict) and (text := _content(token)) and isinstance(token.get("id"), int):
                yield text, token["id"]
        decoder = self._config.get("added_tokens_decoder")
        for number, token in decoder.items() if isinstance(decoder, dict) else ():
            if number.isdecimal() and (text := _content(token)):
                yield text, int(number)
        yield from _numbers_alone(self._numbers)

    def _array_in_tokenizer(self) -> list[Any]:
        try:
            data = self._file.read_bytes()
            found = _ADDED_TOKENS.search(data)
            return json.JSONDecoder().raw_decode(data[found.end() :].decode())[0] if found else []
        except (ValueError, RecursionError, OSError):
            return []

    def _own(self) -> Mapping[str, int]:
        """The tokens of the tokenizer's model, without added ones. This parses all of tokenizer.json."""
        try:
            vocabulary = json.loads(self._file.read_bytes())["model"]["vocab"]
        except (ValueError, LookupError, TypeError, RecursionError, OSError):
            return {}
        if isinstance(vocabulary, list):  # of pairs of text and score
            return {entry[0]: number for number, entry in enumerate(vocabulary)}
        return dict(_numbers_alone(vocabulary)) if isinstance(vocabulary, dict) else {}


def says_everything(tokenizer_config: Mapping[str, Any]) -> bool:
    """Whether tokenizer_config.json numbers its added tokens, and so is the only file that names tokens and roles.

    Otherwise special_tokens_map.json has the last word on roles, and added_tokens.json names the tokens
    (transformers 5.23, `PreTrainedTokenizerBase._from_pretrained`).
    """
    return tokenizer_config.get("added_tokens_decoder") is not None


def content_of(token: Any) -> Any:
    """A token's text: these files hold it directly, or as `content` of an object."""
    return token.get("content") if isinstance(token, dict) else token


def _content(token: Any) -> str | None:
    text = content_of(token)
    return text if isinstance(text, str) and text else None


def _is_plain(text: str) -> bool:
    """A space is written as Ġ by byte-level tokenizers and as ▁ by SentencePiece's; <0x41> is a byte there."""
    shown = text.replace("Ġ", " ").replace("▁", " ")
    return shown != "" and shown.isascii() and shown.isprintable() and not re.fullmatch("<.+>", text)


def _numbers_alone(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    return ((text, number) for text, number in values.items() if isinstance(number, int))
