"""Reads one event of a streamed completion: a piece of text, an error, the count of tokens, or the end.

Most events are a piece of text, which their bytes alone tell; only the others are parsed as JSON, because the load
generator must cost far less than the server that it measures.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TEXT_KEYS = ("text", "content", "reasoning_content", "reasoning", "refusal", "tool_calls")
# JSON escapes a quote within a string, so these bytes can only be a key and the first character of its value.
_PIECE_OF_TEXT = re.compile(rb'"(?:text|content|reasoning_content|reasoning)"\s*:\s*"[^"]')
_COUNTS = re.compile(rb'"usage"\s*:\s*\{')


@dataclass(frozen=True, slots=True)
class Said:
    """text: whether a token's text came. tokens: the server's own count so far, 0 if it gave none. error: "" if none.

    finished: it has a finish_reason; not set for an event with text (ask `is_last`). done: it is [DONE].
    """

    text: bool = False
    tokens: int = 0
    error: str = ""
    finished: bool = False
    done: bool = False


_TEXT, _DONE, _NOTHING = Said(text=True), Said(done=True), Said()


def read_event(kind: bytes, data: bytes) -> Said:
    """kind: the type in its `event:` line, or b"". An event of unknown shape gives an empty `Said`."""
    if _PIECE_OF_TEXT.search(data) and not _says_more(kind, data):
        return _TEXT
    if data.strip() == b"[DONE]":
        return _DONE
    event = parsed(data)
    if kind == b"error" or (isinstance(event, dict) and (event.get("error") or event.get("object") == "error")):
        return Said(error=data.decode("utf-8", "replace"))
    if not isinstance(event, dict):
        return _NOTHING
    return Said(
        text=any(_has_text(choice) for choice in _choices(event)),
        tokens=completion_tokens(event),
        finished=_finishes(event),
    )


def is_last(data: bytes) -> bool:
    """Whether an event with text also has a finish_reason."""
    event = parsed(data)
    return isinstance(event, dict) and _finishes(event)


def parsed(data: bytes | bytearray) -> Any:
    """The JSON in `data`; None if there is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _says_more(kind: bytes, data: bytes) -> bool:
    return b'"error"' in data or kind == b"error" or (b'"usage"' in data and bool(_COUNTS.search(data)))


def completion_tokens(answer: Any) -> int:
    """The server's own count in an answer, or in a stream's last event; 0 if it gave none."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _choices(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield choice


def _finishes(event: dict[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in _choices(event))


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    return any(place.get(key) for place in (choice, delta) if isinstance(place, dict) for key in _TEXT_KEYS)
