"""The events of streamed completions in OpenAI's format, for peers that have none of their own."""

import json
from dataclasses import dataclass, field

DONE = "[DONE]"


@dataclass
class Answers:
    """The answers of one batch of requests: which of them end at which step.

    prompt_tokens, wanted: tokens of each request's prompt, and of its answer. whole: each answer is one piece of text,
    at its end.
    """

    prompt_tokens: list[int]
    wanted: list[int]
    whole: bool = False
    steps: int = 0
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = [""] * len(self.wanted)

    def step(self, texts: list[str]) -> list[list[str]]:
        """The data of each request's events, by its place in the batch. texts: of the next token of each."""
        self.steps += 1
        return [self._events(place, text) for place, text in enumerate(texts)]

    def _events(self, place: int, text: str) -> list[str]:
        wanted = self.wanted[place]
        if self.steps > wanted:
            return []
        self.texts[place] += text
        ends = self.steps == wanted
        shown = self.texts[place] if self.whole else text
        pieces = [_piece(shown, ends)] if ends or not self.whole else []
        return [*pieces, _usage(self.prompt_tokens[place], wanted), DONE] if ends else pieces


def _piece(text: str, ends: bool) -> str:
    choice = {"index": 0, "text": text, "finish_reason": "length" if ends else None}
    return json.dumps({"object": "text_completion", "choices": [choice]})


def _usage(prompt: int, completion: int) -> str:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return json.dumps({"object": "text_completion", "choices": [], "usage": counts})


def as_stream(events: list[str]) -> str:
    """The events as they are sent: one line of data each, and an empty line after it."""
    return "".join(f"data: {data}\n\n" for data in events)
