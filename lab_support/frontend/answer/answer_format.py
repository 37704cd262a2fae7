"""Encodes tokens and text as OpenAI's JSON: stream events and whole bodies, for completions and for chats.

A stream event is constant bytes around one JSON string: everything that does not change from token to token is encoded
once for each request. Nothing here sends, and nothing measures time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from lab_support.frontend.request.openai_api import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    ChatTokenLogprob,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    Finish,
    PromptLogprob,
    TopLogprob,
    Usage,
)
from lab_support.frontend.text.speller import Spelled, Speller
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.generation import TokenLogprobs

LOWEST_LOGPROB = -9999.0  # JSON has no infinity; vLLM's figure
DONE = b"data: [DONE]\n\n"
Logprobs = CompletionLogprobs | ChatLogprobs
Entries = Sequence[TokenLogprobs | None]
"""One entry for each token; None for a prompt's first token."""
_PART = 60  # bytes that an encoded part takes besides its content
encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Heading:
    """The fields at the beginning of every event of an answer. `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


@dataclass(slots=True)
class FinishedChoice:
    """One choice that has ended."""

    index: int
    text: str
    finish: Finish
    logprobs: dict[str, msgspec.Raw] | None
    prompt_logprobs: msgspec.Raw | UnsetType


class CollectedLogprobs:
    """Log-probabilities of one choice, encoded as they arrive, because encoding a long answer's at once takes 0.2 s."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[str, list[bytes]] = {}

    def add(self, logprobs: Logprobs) -> int:
        """Append to each field's list; returns the bytes that they take."""
        size = 0
        for name in logprobs.__struct_fields__:
            part = encode(getattr(logprobs, name))[1:-1]
            self._fields.setdefault(name, []).append(part)
            size += len(part) + _PART
        return size

    def whole(self) -> dict[str, msgspec.Raw] | None:
        """All fields as one object; None if there are none."""
        return {name: msgspec.Raw(b"[" + b",".join(parts) + b"]") for name, parts in self._fields.items()} or None


class CollectedPrompt:
    """`prompt_logprobs` of one choice, encoded as they arrive."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, ids: list[int], entries: Entries, most: int, tokenizer: Tokenizer) -> int:
        """Append entries; returns the bytes that they take. most: likeliest tokens to show with each token."""
        part = encode([_at_place(*each, most, tokenizer) for each in zip(ids, entries, strict=True)])[1:-1]
        self._parts.append(part)
        return len(part) + _PART

    def whole(self) -> msgspec.Raw | UnsetType:
        return msgspec.Raw(b"[" + b",".join(self._parts) + b"]") if self._parts else UNSET


def _at_place(
    token_id: int, entry: TokenLogprobs | None, most: int, tokenizer: Tokenizer
) -> dict[str, PromptLogprob] | None:
    if entry is None:
        return None
    own = {token_id: (entry.logprob, entry.rank)}
    best = {each: (logprob, rank) for rank, (each, logprob) in enumerate(entry.top[:most], 1)}
    return {
        str(each): PromptLogprob(_finite(logprob), rank, tokenizer.token_text(each))
        for each, (logprob, rank) in (own | best | own).items()
    }


class AnswerFormat(Protocol):
    """The JSON of one kind of answer: completion or chat."""

    def event_parts(self, index: int, with_usage: bool) -> "EventParts": ...
    def usage_event(self, usage: Usage) -> bytes: ...
    def body(self, choices: list[FinishedChoice], usage: Usage) -> bytes: ...
    def logprobs(self, ids: list[int], entries: Entries, speller: Speller, last: bool) -> Logprobs:
        """last: the choice's text, or the prompt's, ends with these tokens."""


@dataclass(frozen=True, slots=True)
class EventParts:
    """The constant bytes of one choice's events: `first` or `next`, then the text, then `running`.

    `after` closes the object that holds the text, `end` the event; between them are logprobs and finish_reason.
    """

    first: bytes
    next: bytes
    after: bytes
    end: bytes
    running: bytes

    def event(
        self, first: bool, text: str, logprobs: Logprobs | None, finish: Finish | None, usage: Usage | None = None
    ) -> bytes:
        """A whole event. The common one (no logprobs, not the first or last) is `next + encode(text) + running`.

        usage: counts to include in this event.
        """
        begin = self.first if first else self.next
        extra = b',"logprobs":' + encode(logprobs) + b',"finish_reason":' + encode(finish)
        end = self.end if usage is None else b'}],"usage":' + encode(usage) + b"}\n\n"
        return begin + encode(text) + self.after + extra + end


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
        made = [
            CompletionChoice(c.index, c.text, c.logprobs, c.finish, c.prompt_logprobs)  # type: ignore[arg-type]
            for c in choices
        ]
        heading = self.heading
        return encode(Completion(heading.id, "text_completion", heading.created, heading.model, made, usage))

    def logprobs(self, ids: list[int], entries: Entries, speller: Speller, last: bool) -> CompletionLogprobs:
        made = CompletionLogprobs([], [], [], [])
        for token, entry, top in _spelled(ids, entries, speller, last):
            logprob = None if entry is None else _finite(entry.logprob)
            made.text_offset.append(token.offset)
            made.tokens.append(token.text)
            made.token_logprobs.append(logprob)
            made.top_logprobs.append(None if logprob is None else _by_text(token, logprob, top))
        return made


def _by_text(token: Spelled, logprob: float, top: "list[_Alternative]") -> dict[str, float]:
    """An object can't have two tokens of one text as keys, so less likely ones are `token_id:N`, as vLLM spells ids."""
    texts: dict[str, float] = {token.text: logprob}
    for token_id, other, each in top:
        if other is not token:
            texts[other.text if other.text not in texts else f"token_id:{token_id}"] = each
    return texts


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """/v1/chat/completions. The first event of a choice has the role as well as its first text."""

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
        prompt: Any = choices[0].prompt_logprobs  # the same for all choices, which share one prompt
        return encode(
            ChatCompletion(heading.id, "chat.completion", heading.created, heading.model, made, usage, prompt)
        )

    def logprobs(self, ids: list[int], entries: Entries, speller: Speller, last: bool) -> ChatLogprobs:
        return ChatLogprobs(
            [
                ChatTokenLogprob(
                    token.text,
                    _finite(entry.logprob),
                    list(token.data),
                    [TopLogprob(other.text, each, list(other.data)) for _, other, each in top],
                )
                for token, entry, top in _spelled(ids, entries, speller, last)
                if entry is not None
            ]
        )


_Alternative = tuple[int, Spelled, float]


def _spelled(
    ids: list[int], entries: Entries, speller: Speller, last: bool
) -> Iterator[tuple[Spelled, TokenLogprobs | None, list[_Alternative]]]:
    """Each token with its entry and the likeliest tokens at its place, which may include the token itself."""
    for number, (token_id, entry) in enumerate(zip(ids, entries, strict=True), 1):
        top = entry.top if entry is not None else []
        others = {other: speller.peek(other) for other, _ in top if other != token_id}
        token = others[token_id] = speller.push(token_id, last and number == len(ids))
        yield token, entry, [(other, others[other], _finite(each)) for other, each in top]


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
