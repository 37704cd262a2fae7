"""Spells a choice's tokens for its log-probabilities: each gets a text, bytes and an offset in the choice's text.

A token's text is the text that it adds to the choice's: nothing while a character lacks bytes, the whole character with
its last byte. So the texts of all tokens, joined, are the choice's text, and each is found at its offset. vLLM has the
same rule for split characters (0.33, `LogprobsProcessor._correct_decoded_token`), but decodes every other token alone.
Three things differ from vLLM, for the better:

- A word's leading space is kept. Tokenizers of SentencePiece's kind put it into the word, and decoding the word alone
  drops it.
- The bytes are the token's own, even for a part of a character, for which vLLM gives none.
- Offsets count only shown text. A special token has a name but adds no text, so the token after it has the same offset.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lab_support.frontend.text.tokenizer import Tokenizer


class Spelled(NamedTuple):
    """One token. `offset`: characters of the choice's text before it."""

    text: str
    data: bytes
    offset: int


class Speller:
    """Spells the tokens of one choice, in their order.

    offset: characters of its text so far. context: the tokens before it, not spelled, if its text continues theirs.
    """

    __slots__ = ("_detokenizer", "_tokenizer", "offset")

    def __init__(self, tokenizer: Tokenizer, offset: int = 0, context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = tokenizer.detokenizer(context)
        self.offset = offset

    def push(self, token_id: int, last: bool = False) -> Spelled:
        """The next token. The last one also gets the text that was held back."""
        added = self._detokenizer.push([token_id])
        if last:
            added += self._detokenizer.finish()
        spelled = self._spelled(token_id, added)
        self.offset += len(added)
        return spelled

    def peek(self, token_id: int) -> Spelled:
        """The spelling of a token if it came next."""
        return self._spelled(token_id, self._detokenizer.peek(token_id))

    def _spelled(self, token_id: int, added: str) -> Spelled:
        name = self._tokenizer.special_text(token_id)
        if name is not None:
            return Spelled(name, name.encode(), self.offset)
        data = self._tokenizer.token_bytes(token_id)
        if data.startswith(b" ") and data[1:] == added.encode():  # the space is cut off at the beginning of a text
            data = data[1:]
        return Spelled(added, data, self.offset)


def spell(tokenizer: Tokenizer, token_ids: list[int]) -> list[str]:
    """The text of each token; joined, they are the whole text, special tokens included."""
    speller = Speller(tokenizer)
    last = len(token_ids) - 1
    return [speller.push(token_id, index == last).text for index, token_id in enumerate(token_ids)]
