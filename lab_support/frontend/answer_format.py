"""Tokens and text to OpenAI's JSON: the events of a stream and whole bodies, for both ways of asking.

An event of a stream is constant bytes around one JSON string; everything that does not change from token to token is
encoded once a request. Pure functions of their arguments: nothing here sends, and nothing keeps time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from lab_support.boundary.messages import TokenLogprobs
from lab_support.frontend.openai_api import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    Finish,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from lab_support.frontend.speller import Spelled, Speller

LOWEST_LOGPROB = -9999.0  # JSON has no infinity; vLLM's figure
DONE = b"data: [DONE]\n\n"
Logprobs = CompletionLogprobs | ChatLogprobs
_PART = 60  # bytes that a few encoded ones take beside their own
encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Heading:
    """What all events of an answer begin with. `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


@dataclass(slots=True)
class FinishedChoice:
    """One choice as it ended."""

    index: int
    text: str
    finish: Finish
    logprobs: dict[str, msgspec.Raw] | None


class CollectedLogprobs:
    """Log-probabilities of one choice, encoded as they come: those of a long answer at once would take 0.2 s."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[str, list[bytes]] = {}

    def add(self, logprobs: Logprobs) -> int:
        """Returns how many bytes they take. Each field is a list, which grows."""
        size = 0
        for name in logprobs.__struct_fields__:
            part = encode(getattr(logprobs, name))[1:-1]
            self._fields.setdefault(name, []).append(part)
            size += len(part) + _PART
        return size

    def whole(self) -> dict[str, msgspec.Raw] | None:
        """As one object; None where there are none."""
        return {name: msgspec.Raw(b"[" + b",".join(parts) + b"]") for name, parts in self._fields.items()} or None


class AnswerFormat(Protocol):
    """How one way of asking is answered."""

    def event_parts(self, index: int, with_usage: bool) -> "EventParts": ...
    def usage_event(self, usage: Usage) -> bytes: ...
    def body(self, choices: list[FinishedChoice], usage: Usage) -> bytes: ...
    def logprobs(self, ids: list[int], entries: list[TokenLogprobs], speller: Speller, last: bool) -> Logprobs:
        """`last`: the choice's text ends with these tokens."""


@dataclass(frozen=True, slots=True)
class EventParts:
    """The constant bytes of one choice's events: `first` or `next`, then the text, then `running`.

    `after` closes the object that holds the text, `end` the event; between them stand logprobs and finish_reason.
    """

    first: bytes
    next: bytes
    after: bytes
    end: bytes
    running: bytes

    def event(self, first: bool, text: str, logprobs: Logprobs | None, finish: Finish | None) -> bytes:
        """A whole event. The common one (no logprobs, not the first or last) is `next + encode(text) + running`."""
        begin = self.first if first else self.next
        extra = b',"logprobs":' + encode(logprobs) + b',"finish_reason":' + encode(finish)
        return begin + encode(text) + self.after + extra + self.end


def _parts(
    head: bytes, index: int, before_first: bytes, before_next: bytes, after: bytes, with_usage: bool
) -> EventParts:
    opening = b"data: " + head + b',"choices":[{"index":%d,' % index
    end = b'}],"usage":null}\n\n' if with_usage else b"}]}\n\n"
    running = after + b',"logprobs":null,"finish_reason":null' + end
    return EventParts(opening + before_first, opening + before_next, after, end, running)


def _head(heading: Heading, kind: str) -> bytes:
    """`{"id":…,"object":…,"created":…,"model":…` without the closing brace."""
    fields = {"id": heading.id, "object": kind, "created": heading.created, "model": heading.model}
    return encode(fields)[:-1]


def _usage_event(head: bytes, usage: Usage) -> bytes:
    return b"data: " + head + b',"choices":[],"usage":' + encode(usage) + b"}\n\n"


@dataclass(frozen=True, slots=True)
class CompletionFormat:
    """/v1/completions."""

    heading: Heading

    def event_parts(self, index: int, with_usage: bool) -> EventParts:
        return _parts(_head(self.heading, "text_completion"), index, b'"text":', b'"text":', b"", with_usage)

    def usage_event(self, usage: Usage) -> bytes:
        return _usage_event(_head(self.heading, "text_completion"), usage)

    def body(self, choices: list[FinishedChoice], usage: Usage) -> bytes:
        made = [CompletionChoice(c.index, c.text, c.logprobs, c.finish) for c in choices]  # type: ignore[arg-type]
        heading = self.heading
        return encode(Completion(heading.id, "text_completion", heading.created, heading.model, made, usage))

    def logprobs(
        self, ids: list[int], entries: list[TokenLogprobs], speller: Speller, last: bool
    ) -> CompletionLogprobs:
        made = CompletionLogprobs([], [], [], [])
        for token, logprob, top in _spelled(ids, entries, speller, last):
            made.text_offset.append(token.offset)
            made.tokens.append(token.text)
            made.token_logprobs.append(logprob)
            made.top_logprobs.append(_by_text(token, logprob, top))
        return made


def _by_text(token: Spelled, logprob: float, top: "list[_Alternative]") -> dict[str, float]:
    """An object can't hold two tokens of one text: the less likely ones are `token_id:N`, as vLLM spells an id."""
    texts: dict[str, float] = {token.text: logprob}
    for token_id, other, each in top:
        if other is not token:
            texts[other.text if other.text not in texts else f"token_id:{token_id}"] = each
    return texts


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """/v1/chat/completions. The first event of a choice carries the role beside its first text."""

    heading: Heading

    def event_parts(self, index: int, with_usage: bool) -> EventParts:
        head = _head(self.heading, "chat.completion.chunk")
        first = b'"delta":{"role":"assistant","content":'
        return _parts(head, index, first, b'"delta":{"content":', b"}", with_usage)

    def usage_event(self, usage: Usage) -> bytes:
        return _usage_event(_head(self.heading, "chat.completion.chunk"), usage)

    def body(self, choices: list[FinishedChoice], usage: Usage) -> bytes:
        made = [
            ChatChoice(c.index, AssistantMessage("assistant", c.text), c.logprobs, c.finish)  # type: ignore[arg-type]
            for c in choices
        ]
        heading = self.heading
        return encode(ChatCompletion(heading.id, "chat.completion", heading.created, heading.model, made, usage))

    def logprobs(self, ids: list[int], entries: list[TokenLogprobs], speller: Speller, last: bool) -> ChatLogprobs:
        return ChatLogprobs(
            [
                TokenLogprob(token.text, logprob, list(token.data), [_top(other, each) for _, other, each in top])
                for token, logprob, top in _spelled(ids, entries, speller, last)
            ]
        )


def _top(token: Spelled, logprob: float) -> TopLogprob:
    return TopLogprob(token.text, logprob, list(token.data))


_Alternative = tuple[int, Spelled, float]


def _spelled(
    ids: list[int], entries: list[TokenLogprobs], speller: Speller, last: bool
) -> Iterator[tuple[Spelled, float, list[_Alternative]]]:
    """Each token with its log-probability and the likeliest tokens in its place; it may be one of them itself."""
    for number, (token_id, entry) in enumerate(zip(ids, entries, strict=True), 1):
        others = {other: speller.peek(other) for other, _ in entry.top if other != token_id}
        token = others[token_id] = speller.push(token_id, last and number == len(ids))
        yield token, _finite(entry.logprob), [(other, others[other], _finite(each)) for other, each in entry.top]


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
