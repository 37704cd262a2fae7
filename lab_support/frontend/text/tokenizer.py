"""Text ⇄ token ids, with the `tokenizers` library and a model folder's own files, and the chat template.

It does not use `transformers`, whose AutoTokenizer costs an API server 1.7 s and 220 MB to import.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import tokenizers
from tokenizers import AddedToken
from tokenizers.decoders import ByteLevel

from lab_support.frontend.text.chat_template import ChatTemplate
from lab_support.frontend.text.detokenizer import ByteDetokenizer, Detokenizer, LibraryDetokenizer
from lab_support.frontend.text.token_bytes import ByteLevelBytes, LibraryBytes, ShownBytes, TokenBytes
from lab_support.frontend.text.tokenizer_class import tokenizer_class
from lab_support.frontend.text.tokenizer_files import TokenizerError, TokenizerFiles, read_json

CHARACTERS_AT_ONCE = 4096
CUT_TOKENS = 64  # margin, because the first half of a cut word can have more tokens than the whole word


class HasPath(Protocol):
    """Anything opened from a model folder."""

    @property
    def path(self) -> Path: ...


class Tokenizer:
    """Opened by `Tokenizer.open`. All requests of an API server share it; it keeps no state of any of them."""

    def __init__(self, inner: tokenizers.Tokenizer, chat_template: ChatTemplate) -> None:
        inner.no_truncation()
        inner.no_padding()
        self.chat_template = chat_template
        self._inner = inner
        self._special = {i: token.content for i, token in inner.get_added_tokens_decoder().items() if token.special}
        self.byte_level = isinstance(inner.decoder, ByteLevel)
        self._bytes: TokenBytes = ByteLevelBytes(inner) if self.byte_level else LibraryBytes(inner)
        self._shown = ShownBytes(self._bytes, frozenset(self._special))

    @classmethod
    def open(cls, folder: HasPath) -> "Tokenizer":
        """Read tokenizer.json (required) and the files next to it. Raises `TokenizerError`."""
        path = folder.path / "tokenizer.json"
        try:
            inner = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except OSError as error:
            raise TokenizerError(f"{path}: {error.strerror}; a model folder needs a tokenizer.json") from error
        except ValueError as error:
            raise TokenizerError(f"{path}: not a tokenizer that the tokenizers library reads: {error}") from error
        config = read_json(folder.path / "tokenizer_config.json")
        kind = tokenizer_class(inner, config, read_json(folder.path / "config.json"))
        kind.remake(inner, config)
        files = TokenizerFiles.read(folder.path, kind.roles, {token.content for token in _added(inner)})
        _complete(inner, files)
        return cls(inner, ChatTemplate(files.chat_template, files.roles))

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, the added ones included."""
        return self._inner.get_vocab_size()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`. Any thread may call it, because the library releases the interpreter's lock.

        `encode_batch_fast` omits the tokens' positions in the text, which saves a fifth of the time.
        """
        return self._inner.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids

    def encode_up_to(self, text: str, most: int, add_special_tokens: bool = True) -> list[int] | None:
        """Token ids of `text`, or None if they are certainly more than `most`.

        A text that is far too long is given up after its first part, because 4 MB of it would take seconds and 700 MB.
        """
        part = CHARACTERS_AT_ONCE + 4 * most
        while part < len(text):
            if len(self.encode(text[:part], add_special_tokens)) > most + CUT_TOKENS:
                return None
            part *= 2
        token_ids = self.encode(text, add_special_tokens)
        return token_ids if len(token_ids) <= most else None

    def decode(self, token_ids: list[int]) -> str:
        """The text of all ids at once, without special tokens. Any thread may call it.

        The library's `decode` holds the interpreter's lock; its `decode_batch` releases it.
        """
        return self._inner.decode_batch([token_ids], skip_special_tokens=True)[0]

    def detokenizer(self, context: Sequence[int] = ()) -> Detokenizer:
        """A new detokenizer for one sequence. context: the tokens before it, if its text continues theirs."""
        if self.byte_level:
            return ByteDetokenizer(self._shown)
        return LibraryDetokenizer(self._inner, self._special, context)

    def special_text(self, token_id: int) -> str | None:
        """The text of a special token, which no answer shows; None for any other token."""
        return self._special.get(token_id)

    def token_text(self, token_id: int) -> str:
        """The text of one token by itself, also of a special one; U+FFFD for a part of a character."""
        return self.token_bytes(token_id).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token within a text, with its leading space, if any; none beyond the vocabulary."""
        return self._bytes[token_id]


def _added(inner: tokenizers.Tokenizer) -> list[AddedToken]:
    return list(inner.get_added_tokens_decoder().values())


def _complete(inner: tokenizers.Tokenizer, files: TokenizerFiles) -> None:
    """Add the tokens of the files next to tokenizer.json, in transformers' order (`TokenizersBackend.__init__`)."""
    for token in files.added:
        token.special = token.special or token.content in files.roles.values()
    known = {token.content for token in (*_added(inner), *files.added)}
    further = [AddedToken(text, special=True) for text in dict.fromkeys(files.special) if text not in known]
    inner.add_tokens([*files.added, *further])
    inner.encode_special_tokens = files.split_special_tokens
