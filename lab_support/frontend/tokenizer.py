"""Text ⇄ token ids, with the `tokenizers` library and a model folder's own files; the chat template beside it.

Not `transformers`, whose AutoTokenizer costs an API server 1.7 s and 220 MB to import.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import tokenizers
from tokenizers.decoders import ByteLevel

from lab_support.config import ConfigError
from lab_support.frontend.chat_template import ChatTemplate
from lab_support.frontend.detokenizer import ByteDetokenizer, Detokenizer, LibraryDetokenizer, TokenBytes

CHARACTERS_AT_ONCE = 4096
CUT_TOKENS = 64  # a cut through a word can make more tokens of its first half than the whole word has


class TokenizerError(ConfigError):
    """The folder's tokenizer can't be used. The text names the file and what is wrong."""


class HasPath(Protocol):
    """Anything opened from a model folder."""

    @property
    def path(self) -> Path: ...


class Tokenizer:
    """Opened by `Tokenizer.open`. It is shared by all requests of an API server and keeps no state of any."""

    def __init__(self, inner: tokenizers.Tokenizer, chat_template: ChatTemplate) -> None:
        inner.no_truncation()
        inner.no_padding()
        self.chat_template = chat_template
        self._inner = inner
        added = inner.get_added_tokens_decoder()
        self._table = TokenBytes(inner, frozenset(i for i, token in added.items() if token.special))
        self.byte_level = isinstance(inner.decoder, ByteLevel)

    @classmethod
    def open(cls, folder: HasPath) -> "Tokenizer":
        """Read tokenizer.json (needed), tokenizer_config.json and chat_template.jinja. Raises `TokenizerError`."""
        path = folder.path / "tokenizer.json"
        try:
            inner = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except OSError as error:
            raise TokenizerError(f"{path}: {error.strerror}; a model folder needs a tokenizer.json") from error
        except ValueError as error:
            raise TokenizerError(f"{path}: not a tokenizer that the tokenizers library reads: {error}") from error
        return cls(inner, _chat_template(folder.path))

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, the added ones included."""
        return self._inner.get_vocab_size()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`. Any thread may call it: the library lets go of the interpreter's lock.

        The fast way leaves out where in the text each token stands, and with it a fifth of the time.
        """
        return self._inner.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids

    def encode_up_to(self, text: str, most: int, add_special_tokens: bool = True) -> list[int] | None:
        """Token ids of `text`, or None where they are certainly more than `most`.

        A text that is far too long is given up after its first part: 4 MB of it would take seconds and 700 MB.
        """
        part = CHARACTERS_AT_ONCE + 4 * most
        while part < len(text):
            if len(self.encode(text[:part], add_special_tokens)) > most + CUT_TOKENS:
                return None
            part *= 2
        token_ids = self.encode(text, add_special_tokens)
        return token_ids if len(token_ids) <= most else None

    def decode(self, token_ids: list[int]) -> str:
        """The text of all ids at once, special tokens left out. Any thread may call it.

        The library's `decode` keeps the interpreter's lock; its `decode_batch` lets go of it.
        """
        return self._inner.decode_batch([token_ids], skip_special_tokens=True)[0]

    def detokenizer(self) -> Detokenizer:
        """A new incremental detokenizer, for one sequence."""
        return ByteDetokenizer(self._table) if self.byte_level else LibraryDetokenizer(self._inner)

    def token_text(self, token_id: int) -> str:
        """One token by itself, special tokens too; U+FFFD where it is no whole character."""
        return self.token_bytes(token_id).decode(errors="replace")

    def token_texts(self, token_ids: list[int]) -> list[str]:
        """`token_text` of each."""
        texts = {token_id: self.token_text(token_id) for token_id in set(token_ids)}
        return [texts[token_id] for token_id in token_ids]

    def token_bytes(self, token_id: int) -> bytes:
        if self.byte_level:
            return self._table.spell(token_id)
        return self._inner.decode([token_id], skip_special_tokens=False).encode()


def _chat_template(path: Path) -> ChatTemplate:
    config = _read_json(path / "tokenizer_config.json")
    own_file = path / "chat_template.jinja"
    source = _read_text(own_file) if own_file.exists() else config.get("chat_template")
    if isinstance(source, list):  # several by name
        source = next((each["template"] for each in source if each.get("name") == "default"), None)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    return ChatTemplate(source, {name: _content(config[name]) for name in names if config.get(name)})


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise TokenizerError(f"{path}: not JSON: {error}") from error
    return config if isinstance(config, dict) else {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: got text that is not UTF-8 ({error}); download the file again") from error


def _content(token: str | dict[str, str]) -> str:
    return token["content"] if isinstance(token, dict) else token
