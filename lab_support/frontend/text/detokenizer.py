"""Turns token ids into text, step by step: never half a character, and in total the text of decoding all ids at once.

There are two ways. The tokens of a byte-level BPE tokenizer are bytes, so a table and a UTF-8 decoder suffice, and take
a fraction of a microsecond. With any other tokenizer, the `tokenizers` library decodes the last few tokens again.
"""

from codecs import utf_8_decode
from collections.abc import Container, Sequence
from typing import Protocol

import tokenizers

from lab_support.frontend.text.token_bytes import ShownBytes

MOST_HELD = 8  # tokens held back: a character has at most 4 bytes, so more tokens can't become one


class Detokenizer(Protocol):
    """The text of one sequence. `push` returns the complete characters, `finish` the rest.

    peek: the text that `push` would return for one more token.
    """

    def push(self, token_ids: list[int]) -> str: ...

    def peek(self, token_id: int) -> str: ...

    def finish(self) -> str: ...


class ByteDetokenizer:
    """For byte-level tokenizers. Bytes that are not UTF-8 become U+FFFD, as when decoding all ids at once."""

    __slots__ = ("_rest", "_table")

    def __init__(self, table: ShownBytes) -> None:
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

    def peek(self, token_id: int) -> str:
        return utf_8_decode(self._rest + self._table[token_id], "replace", False)[0]

    def finish(self) -> str:
        text, _ = utf_8_decode(self._rest, "replace", True)
        self._rest = b""
        return text


class LibraryDetokenizer:
    """For all other tokenizers: decodes a short window again with each token and returns the added text.

    The window begins with the tokens shown last, because a decoder may treat the first token specially (a leading
    space). If the text continues a prompt's, it begins with the prompt's last tokens, so that the first word of a
    completion has its leading space, as in vLLM. The library's own `DecodeStream` is not used, because it raises if a
    later token changes earlier text, as byte fallback does with bytes that are not UTF-8. Only in that case does the
    text differ from decoding all ids at once.
    """

    __slots__ = ("_shown", "_special", "_tokenizer", "_window")

    def __init__(self, tokenizer: tokenizers.Tokenizer, special: Container[int], context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._window = [token_id for token_id in context if token_id not in special]
        if tokenizer.decode(self._window).endswith("\ufffd"):
            self._window.clear()  # it ends within a character, so there is no text to continue
        self._shown = len(self._window)  # tokens of the window whose text has been returned

    def push(self, token_ids: list[int]) -> str:
        return "".join([self._push(token_id) for token_id in token_ids])

    def _push(self, token_id: int) -> str:
        if token_id in self._special:
            return ""
        self._window.append(token_id)
        added = self._complete()
        if added:
            held = len(self._window) - self._shown
            self._window = self._window[self._shown :]
            self._shown = held
        return added

    def peek(self, token_id: int) -> str:
        if token_id in self._special:
            return ""
        self._window.append(token_id)
        added = self._complete()
        self._window.pop()
        return added

    def finish(self) -> str:
        added = self._added()
        self._shown = len(self._window)
        return added

    def _complete(self) -> str:
        """The text that the held tokens add; empty if it may end within a character."""
        added = self._added()
        return "" if added.endswith("\ufffd") and len(self._window) - self._shown <= MOST_HELD else added

    def _added(self) -> str:
        before = self._tokenizer.decode(self._window[: self._shown])
        return self._tokenizer.decode(self._window)[len(before) :]
