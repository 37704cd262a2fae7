"""Token ids to text, a step at a time: never half a character, and in the end the text of decoding all at once.

Two ways. A byte-level BPE tokenizer's tokens are bytes, so a table and a UTF-8 decoder do it at a fraction of a
microsecond; with any other tokenizer the `tokenizers` library decodes the last few tokens again.
"""

from codecs import utf_8_decode
from typing import Protocol

import tokenizers

MOST_HELD = 8  # tokens: a character has at most 4 bytes, so that more can't become one


class Detokenizer(Protocol):
    """The text of one sequence. `push` returns the characters that are complete; `finish` what is left."""

    def push(self, token_ids: list[int]) -> str: ...

    def finish(self) -> str: ...


class TokenBytes(dict[int, bytes]):
    """id → the bytes of that token; filled as ids are met, so that a large vocabulary costs nothing at start.

    Special tokens and ids beyond the vocabulary are no bytes: they are not shown.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, special_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._special_ids = special_ids
        self._byte_of = byte_level_alphabet()

    def __missing__(self, token_id: int) -> bytes:
        self[token_id] = piece = b"" if token_id in self._special_ids else self.spell(token_id)
        return piece

    def spell(self, token_id: int) -> bytes:
        """The bytes of any token, special ones too; none beyond the vocabulary."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        try:
            return bytes([self._byte_of[character] for character in token])
        except KeyError:  # an added token is written as itself and not in the alphabet of bytes
            return token.encode()


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet, which byte-level tokenizers share: one printable character for each of the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class ByteDetokenizer:
    """For byte-level tokenizers. Bytes that are no UTF-8 become U+FFFD, as when decoding all at once."""

    __slots__ = ("_rest", "_table")

    def __init__(self, table: TokenBytes) -> None:
        self._table = table
        self._rest = b""

    def push(self, token_ids: list[int]) -> str:
        table = self._table
        data = table[token_ids[0]] if len(token_ids) == 1 else b"".join([table[i] for i in token_ids])
        if self._rest:
            data = self._rest + data
        text, used = utf_8_decode(data, "replace", False)
        self._rest = data[used:] if used != len(data) else b""
        return text

    def finish(self) -> str:
        text, _ = utf_8_decode(self._rest, "replace", True)
        self._rest = b""
        return text


class LibraryDetokenizer:
    """For every other tokenizer: decode a short window again with each token and show what was added.

    The window begins at the tokens shown last, because a decoder may treat the first token specially (a leading
    space). The library's own `DecodeStream` is not used: it raises where a later token changes earlier text, which
    byte fallback does with bytes that are no UTF-8. There, and only there, decoding all at once would differ.
    """

    __slots__ = ("_shown", "_tokenizer", "_window")

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = 0  # tokens of the window whose text is out

    def push(self, token_ids: list[int]) -> str:
        return "".join([self._push(token_id) for token_id in token_ids])

    def _push(self, token_id: int) -> str:
        self._window.append(token_id)
        added = self._added()
        held = len(self._window) - self._shown
        if not added or (added.endswith("\ufffd") and held <= MOST_HELD):
            return ""
        self._window = self._window[self._shown :]
        self._shown = held
        return added

    def finish(self) -> str:
        added = self._added()
        self._shown = len(self._window)
        return added

    def _added(self) -> str:
        before = self._tokenizer.decode(self._window[: self._shown], skip_special_tokens=True)
        return self._tokenizer.decode(self._window, skip_special_tokens=True)[len(before) :]
