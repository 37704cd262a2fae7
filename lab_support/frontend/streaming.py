"""A streamed answer: server-sent events, one for each step that made text, sent from the callback that brings it.

The status goes out with the first event, so that what fails before it is a plain error. What fails later is an event
with an error object, and then the stream ends without `[DONE]`.
"""

import msgspec

from lab_support.boundary.messages import SequenceTokens
from lab_support.frontend.answer_format import DONE, AnswerFormat, EventParts
from lab_support.frontend.choice import Choice
from lab_support.frontend.errors import ApiError
from lab_support.frontend.openai_api import Finish, Usage
from lab_support.frontend.response import EVENT_STREAM, JSON, CallbackWriter, Headers
from lab_support.frontend.speller import Speller
from lab_support.frontend.tokenizer import Tokenizer

_encode_text = msgspec.json.encode


class EventStream:
    """Events of all choices of one request. `headers` is filled before the first token can come.

    echoed: the text that precedes each choice's own, by choice; prompt_tokens: of all prompts together.
    """

    __slots__ = (
        "_begun",
        "_echoed",
        "_format",
        "_open",
        "_parts",
        "_plain",
        "_prompt_tokens",
        "_spellers",
        "_usage",
        "_writer",
        "completion_tokens",
        "failed",
        "headers",
    )

    def __init__(
        self,
        writer: CallbackWriter,
        format: AnswerFormat,
        tokenizer: Tokenizer,
        echoed: list[str],
        prompt_tokens: int,
        with_logprobs: bool,
        with_usage: bool,
    ) -> None:
        self._writer = writer
        self._format = format
        self._echoed = echoed
        self._prompt_tokens = prompt_tokens
        self._usage = with_usage
        self._open = len(echoed)
        self._parts: list[EventParts] = [format.event_parts(index, with_usage) for index in range(len(echoed))]
        self._begun = [False] * len(echoed)  # by choice: its first event is out
        self._plain = [False] * len(echoed)  # and all that follow it but the last have text alone
        self._spellers = [Speller(tokenizer, len(text)) for text in echoed] if with_logprobs else None
        self.headers: Headers = []
        self.completion_tokens = 0
        self.failed = False

    def on_text(self, choice: Choice, text: str, tokens: SequenceTokens, finish: Finish | None) -> None:
        if self.failed:  # by another choice, a moment ago
            return
        if finish is None and self._plain[choice.index]:
            if text:
                parts = self._parts[choice.index]
                self._writer.write(parts.next + _encode_text(text) + parts.running)
            return
        self._on_unusual_text(choice, text, tokens, finish)

    def fail(self, error: ApiError) -> None:
        """The first call ends the stream, with an error event where it has begun."""
        if self.failed:
            return
        self.failed = True
        if self._writer.started:
            self._writer.end(b"data: " + error.body() + b"\n\n")
        else:
            self._writer.start(error.status, JSON, error.headers + self.headers, error.body())
            self._writer.end(error.body())

    def _on_unusual_text(self, choice: Choice, text: str, tokens: SequenceTokens, finish: Finish | None) -> None:
        if not text and finish is None and self._spellers is None:
            return
        event = self._event(choice.index, text, tokens, finish)
        if finish is not None:
            self._open -= 1
            self.completion_tokens += choice.tokens
        if not self._writer.started:
            self._writer.start(200, EVENT_STREAM, [(b"cache-control", b"no-cache"), *self.headers])
        if self._open:
            self._writer.write(event)
        else:
            self._writer.end(event + self._ending())

    def _event(self, index: int, text: str, tokens: SequenceTokens, finish: Finish | None) -> bytes:
        echoed, self._echoed[index] = self._echoed[index], ""
        first, self._begun[index] = not self._begun[index], True
        logprobs = None
        if self._spellers is not None and tokens.logprobs:
            ended = finish is not None
            logprobs = self._format.logprobs(tokens.token_ids, tokens.logprobs, self._spellers[index], ended)
        self._plain[index] = self._spellers is None
        return self._parts[index].event(first, echoed + text, logprobs, finish)

    def _ending(self) -> bytes:
        if not self._usage:
            return DONE
        total = self._prompt_tokens + self.completion_tokens
        return self._format.usage_event(Usage(self._prompt_tokens, self.completion_tokens, total)) + DONE
