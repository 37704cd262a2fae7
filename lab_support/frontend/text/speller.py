"""One choice's tokens as log-probabilities name them: each with its text, its bytes and its place in the choice's text.

A token's text is what it added to the choice's text when it came: nothing while a character lacks bytes, the whole
character with the last of them. So the texts of all tokens, joined, are the choice's text, and each stands where its
offset says. vLLM has the same rule for characters (0.33, `LogprobsProcessor._correct_decoded_token`), but decodes
each token alone otherwise. Three things are better here than there:

- A tokenizer of SentencePiece's kind writes a word's leading space into the word, and decoding it alone drops it.
- The bytes are the token's own, also those of a part of a character, for which vLLM gives none.
- Offsets count what the text holds. Special tokens have a name and no place: they stand where they came, and what
  follows them stands there too.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lab_support.frontend.text.tokenizer import Tokenizer


class Spelled(NamedTuple):
    """A token. `offset`: characters of the choice's text before it."""

    text: str
    data: bytes
    offset: int


class Speller:
    """Spells the tokens of one choice, in their order.

    offset: characters of its text so far. context: the tokens before, which it does not name, where its text goes on.
    """

    __slots__ = ("_detokenizer", "_tokenizer", "offset")

    def __init__(self, tokenizer: Tokenizer, offset: int = 0, context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = tokenizer.detokenizer(context)
        self.offset = offset

    def push(self, token_id: int, last: bool = False) -> Spelled:
        """The next token. Of the last one, what had to be held back is a part."""
        added = self._detokenizer.push([token_id])
        if last:
            added += self._detokenizer.finish()
        spelled = self._spelled(token_id, added)
        self.offset += len(added)
        return spelled

    def peek(self, token_id: int) -> Spelled:
        """Another token, had it come next."""
        return self._spelled(token_id, self._detokenizer.peek(token_id))

    def _spelled(self, token_id: int, added: str) -> Spelled:
        name = self._tokenizer.special_text(token_id)
        if name is not None:
            return Spelled(name, name.encode(), self.offset)
        data = self._tokenizer.token_bytes(token_id)
        if data.startswith(b" ") and data[1:] == added.encode():  # cut off at the beginning of a text
            data = data[1:]
        return Spelled(added, data, self.offset)


def spell(tokenizer: Tokenizer, token_ids: list[int]) -> list[str]:
    """The texts of all tokens of a text; joined, they are that text with the special tokens in it."""
    speller = Speller(tokenizer)
    last = len(token_ids) - 1
    return [speller.push(token_id, index == last).text for index, token_id in enumerate(token_ids)]
