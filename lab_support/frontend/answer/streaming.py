"""A streamed answer: server-sent events, one for each step that made text, sent from the callback that brings it.

The status is sent with the first event, so that an earlier failure is a plain error answer. A later failure is an event
with an error object, and then the stream ends without `[DONE]`.
"""

import msgspec

from lab_support.boundary.messages import SequenceTokens
from lab_support.frontend.answer.answer_format import DONE, Entries, EventParts
from lab_support.frontend.answer.choice import Choice
from lab_support.frontend.answer.job import Job
from lab_support.frontend.answer.token_counts import TokenCounts
from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.response import EVENT_STREAM, JSON, CallbackWriter, Headers
from lab_support.frontend.request.openai_api import Finish, Usage
from lab_support.frontend.request.prompt_logprobs import PromptCursor, speller_of
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.generation import TokenLogprobs

_encode_text = msgspec.json.encode


class EventStream:
    """Events of all choices of one request. `headers` is filled before the first token can come.

    An echoed prompt's log-probabilities are sent as they arrive, in events before the first one with tokens, so that
    they need no memory here.
    """

    __slots__ = (
        "_asked",
        "_begun",
        "_counts",
        "_cursors",
        "_echoed",
        "_format",
        "_open",
        "_parts",
        "_plain",
        "_prompts",
        "_spellers",
        "_usage",
        "_usage_so_far",
        "_writer",
        "failed",
        "headers",
    )

    def __init__(self, job: Job, writer: CallbackWriter, tokenizer: Tokenizer) -> None:
        prompts, asked = job.prompt_by_choice, job.asked
        self._writer = writer
        self._format = job.format
        self._prompts = prompts
        self._echoed = [prompt.echo for prompt in prompts]
        self._cursors = [PromptCursor(prompt.token_ids) for prompt in prompts if asked.echoed is not None]
        self._spellers = [speller_of(tokenizer, prompt, asked) for prompt in prompts if asked.tokens]
        self._counts = TokenCounts(job)
        self._asked = asked
        self._usage = job.with_usage
        self._usage_so_far = job.with_usage_so_far
        self._open = len(prompts)
        self._parts: list[EventParts] = [job.format.event_parts(index, job.with_usage) for index in range(len(prompts))]
        self._begun = [False] * len(prompts)  # by choice: has its first event been sent?
        self._plain = [False] * len(prompts)  # … and do all later events but the last have only text?
        self.headers: Headers = []
        self.failed = False

    def on_prompt(self, choice: Choice, logprobs: list[TokenLogprobs]) -> None:
        if self.failed:
            return
        cursor = self._cursors[choice.index]
        ids, entries = cursor.take(logprobs)
        event = self._event(choice, "", ids, entries, None, cursor.at_end)
        if cursor.at_end:
            self._spellers[choice.index].offset = len(self._prompts[choice.index].echo)
        self._start()
        self._writer.write(event)

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
        """End the stream, with an error event if it has begun. Only the first call counts."""
        if self.failed:
            return
        self.failed = True
        if self._writer.started:
            self._writer.end(b"data: " + error.body() + b"\n\n")
        else:
            self._writer.start(error.status, JSON, error.headers + self.headers, error.body())
            self._writer.end(error.body())

    def _on_unusual_text(self, choice: Choice, text: str, tokens: SequenceTokens, finish: Finish | None) -> None:
        if not text and finish is None and not self._asked.tokens:
            return
        if self._cursors and self._cursors[choice.index].at_start:  # a prompt of one token has no log-probabilities
            self.on_prompt(choice, [])
        event = self._event(choice, text, tokens.token_ids, tokens.logprobs or (), finish, finish is not None)
        if finish is not None:
            self._open -= 1
            self._counts.ended(choice)
        self._start()
        if self._open:
            self._writer.write(event)
        else:
            self._writer.end(event + self._ending())

    def _start(self) -> None:
        if not self._writer.started:
            self._writer.start(200, EVENT_STREAM, [(b"cache-control", b"no-cache"), *self.headers])

    def _event(
        self, choice: Choice, text: str, ids: list[int], entries: Entries, finish: Finish | None, last: bool
    ) -> bytes:
        index = choice.index
        echoed, self._echoed[index] = self._echoed[index], ""
        first, self._begun[index] = not self._begun[index], True
        logprobs = None
        if self._asked.tokens and entries:
            logprobs = self._format.logprobs(ids, entries, self._spellers[index], last)
        self._plain[index] = not self._asked.tokens and not self._usage_so_far
        usage = self._so_far(choice) if self._usage_so_far else None
        return self._parts[index].event(first, echoed + text, logprobs, finish, usage)

    def _so_far(self, choice: Choice) -> Usage:
        prompt = len(self._prompts[choice.index].token_ids)
        return Usage(prompt, choice.tokens, prompt + choice.tokens)

    def _ending(self) -> bytes:
        if not self._usage:
            return DONE
        return self._format.usage_event(self._counts.usage()) + DONE
