"""The bytes of each token within a text: the bytes of all tokens, joined, are the text's.

Byte-level tokenizers write each byte as a character of their own alphabet. Others write text with a mark for each
space, and single bytes (`<0xE4>`) for a character without a token.
"""

import re
from typing import Protocol

import tokenizers

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenBytes(Protocol):
    """id → the token's bytes; none for ids beyond the vocabulary."""

    def __getitem__(self, token_id: int) -> bytes: ...


class ByteLevelBytes(dict[int, bytes]):
    """Filled on demand, so that a large vocabulary costs nothing at start."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._byte_of = byte_level_alphabet()

    def __missing__(self, token_id: int) -> bytes:
        self[token_id] = spelled = self._spell(self._tokenizer.id_to_token(token_id) or "")
        return spelled

    def _spell(self, token: str) -> bytes:
        try:
            return bytes([self._byte_of[character] for character in token])
        except KeyError:  # an added token is written as plain text, not in the alphabet of bytes
            return token.encode()


class LibraryBytes(dict[int, bytes]):
    """For all other tokenizers."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items()}
        decoder = tokenizer.decoder.__getstate__() if tokenizer.decoder else b""
        self._falls_back = b'"ByteFallback"' in decoder
        self._alphabet = ByteLevelBytes(tokenizer) if b'"ByteLevel"' in decoder else None

    def __missing__(self, token_id: int) -> bytes:
        self[token_id] = spelled = self._spell(token_id)
        return spelled

    def _spell(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._tokenizer.id_to_token(token_id) or ""
        if self._falls_back and (byte := _BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        return self._alphabet[token_id] if self._alphabet is not None else self._within_text(token_id)

    def _within_text(self, token_id: int) -> bytes:
        """The text that a second occurrence adds, because a decoder may cut the space before the first token."""
        once = self._tokenizer.decode([token_id], skip_special_tokens=False)
        return self._tokenizer.decode([token_id] * 2, skip_special_tokens=False)[len(once) :].encode()


class ShownBytes(dict[int, bytes]):
    """The bytes that an answer shows: none for special tokens."""

    def __init__(self, whole: TokenBytes, special: frozenset[int]) -> None:
        self._whole = whole
        self._special = special

    def __missing__(self, token_id: int) -> bytes:
        self[token_id] = piece = b"" if token_id in self._special else self._whole[token_id]
        return piece


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet, which byte-level tokenizers share: one printable character for each of the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
