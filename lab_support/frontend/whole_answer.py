"""An answer that is not streamed: the text of all choices, collected, and sent as one body when the last one ends."""

from dataclasses import dataclass, field

from lab_support.boundary.messages import SequenceTokens
from lab_support.frontend.answer_format import AnswerFormat, CollectedLogprobs, FinishedChoice
from lab_support.frontend.choice import Choice
from lab_support.frontend.errors import ApiError
from lab_support.frontend.memory import Lease
from lab_support.frontend.openai_api import Finish, Usage
from lab_support.frontend.response import JSON, CallbackWriter, Headers
from lab_support.frontend.speller import Speller
from lab_support.frontend.tokenizer import Tokenizer

_PIECE = 60  # bytes that a piece of text takes beside its own


@dataclass(slots=True)
class _Collected:
    pieces: list[str]
    speller: Speller | None
    logprobs: CollectedLogprobs = field(default_factory=CollectedLogprobs)
    finish: Finish | None = None


class WholeAnswer:
    """All choices of one request, held by `lease`. `headers` is filled before the first token can come.

    echoed: the text that precedes each choice's own, by choice; prompt_tokens: of all prompts together.
    """

    def __init__(
        self,
        writer: CallbackWriter,
        lease: Lease,
        format: AnswerFormat,
        tokenizer: Tokenizer,
        echoed: list[str],
        prompt_tokens: int,
        with_logprobs: bool,
    ) -> None:
        self._writer = writer
        self._lease = lease
        self._format = format
        self._prompt_tokens = prompt_tokens
        self._choices = [
            _Collected([text], Speller(tokenizer, len(text)) if with_logprobs else None) for text in echoed
        ]
        self._open = len(echoed)
        self.headers: Headers = []
        self.completion_tokens = 0
        self.failed = False

    def on_text(self, choice: Choice, text: str, tokens: SequenceTokens, finish: Finish | None) -> None:
        if self.failed:  # by another choice, a moment ago
            return
        collected = self._choices[choice.index]
        collected.pieces.append(text)
        size = len(text) + _PIECE
        if collected.speller is not None and tokens.logprobs:
            made = self._format.logprobs(tokens.token_ids, tokens.logprobs, collected.speller, finish is not None)
            size += collected.logprobs.add(made)
        if not self._lease.take(size):
            return  # and so this answer has failed
        if finish is not None:
            collected.finish = finish
            self.completion_tokens += choice.tokens
            self._open -= 1
            if not self._open:
                self._send(200, self._body())

    def fail(self, error: ApiError) -> None:
        """The first call answers."""
        if not self.failed:
            self.failed = True
            self.headers += error.headers
            self._send(error.status, error.body())

    def _body(self) -> bytes:
        total = self._prompt_tokens + self.completion_tokens
        return self._format.body(
            [self._finished(index, collected) for index, collected in enumerate(self._choices)],
            Usage(self._prompt_tokens, self.completion_tokens, total),
        )

    def _finished(self, index: int, collected: _Collected) -> FinishedChoice:
        assert collected.finish is not None
        return FinishedChoice(index, "".join(collected.pieces), collected.finish, collected.logprobs.whole())

    def _send(self, status: int, body: bytes) -> None:
        self._choices.clear()
        self._lease.give_back(self._lease.held)  # the writer takes for what it can't send at once
        self._writer.start(status, JSON, self.headers, body)
        self._writer.end(body)
