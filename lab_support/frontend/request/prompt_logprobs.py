"""The log-probabilities that a request asks for, and the pairing of a prompt's tokens with theirs as these arrive."""

from dataclasses import dataclass

from lab_support.frontend.request.prompts import Prompt
from lab_support.frontend.text.speller import Speller
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.generation import TokenLogprobs

Pairs = tuple[list[int], list[TokenLogprobs | None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """The log-probabilities that a request asks for. tokens: those of generated tokens.

    echoed, prompt: the number of likeliest tokens to show with each prompt token, in `logprobs` before the generated
    ones, and in `prompt_logprobs`; None for no log-probabilities there.
    """

    tokens: bool
    echoed: int | None = None
    prompt: int | None = None

    @property
    def of_prompt(self) -> int | None:
        """The number of likeliest tokens that the engine core has to return for each prompt token, enough for both."""
        return max((each for each in (self.echoed, self.prompt) if each is not None), default=None)


class PromptCursor:
    """The position in a choice's prompt up to which its log-probabilities have arrived."""

    __slots__ = ("_next", "_token_ids")

    def __init__(self, token_ids: list[int]) -> None:
        self._token_ids = token_ids
        self._next = 0

    @property
    def at_start(self) -> bool:
        return not self._next

    @property
    def at_end(self) -> bool:
        return self._next >= len(self._token_ids)

    def take(self, logprobs: list[TokenLogprobs]) -> Pairs:
        """The next tokens with their log-probabilities. The first call also returns the first token, with None."""
        entries: list[TokenLogprobs | None] = [*logprobs]
        if self.at_start:
            entries.insert(0, None)
        ids = self._token_ids[self._next : self._next + len(entries)]
        self._next += len(entries)
        return ids, entries


def speller_of(tokenizer: Tokenizer, prompt: Prompt, asked: Asked) -> Speller:
    """A speller for the tokens listed in `logprobs`: the prompt's and then the answer's, or only the answer's."""
    return Speller(tokenizer) if asked.echoed is not None else Speller(tokenizer, len(prompt.echo), prompt.context)


def cut(entries: list[TokenLogprobs | None], most: int) -> list[TokenLogprobs | None]:
    """The same entries with at most `most` of the likeliest tokens each."""
    if all(each is None or len(each.top) <= most for each in entries):
        return entries
    return [each and TokenLogprobs(each.logprob, each.rank, each.top[:most]) for each in entries]
