"""--stream-interval: each event of a stream has the text of several tokens, so that fewer events are sent.

As in vLLM (`RequestState.make_request_output` of v1/engine/output_processor.py), the first token and the last ones are
sent at once, and all events together have the same text. A first token without text makes no event here, so the first
one with text counts as the first.
"""

from lab_support.boundary.messages import SequenceTokens
from lab_support.frontend.answer.choice import Choice
from lab_support.frontend.answer.streaming import EventStream
from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.response import Headers
from lab_support.frontend.request.openai_api import Finish
from lab_support.generation import TokenLogprobs


class _Held:
    """The text and tokens of one choice that no event has had yet."""

    __slots__ = ("begun", "ids", "logprobs", "text")

    def __init__(self) -> None:
        self.begun = False
        self.clear()

    def clear(self) -> None:
        self.text = ""
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprobs] = []

    def add(self, text: str, tokens: SequenceTokens) -> None:
        self.text += text
        self.ids += tokens.token_ids
        self.logprobs += tokens.logprobs or ()


class SpacedStream:
    """An event stream that gets the tokens of each choice only once there are `interval` of them."""

    def __init__(self, stream: EventStream, interval: int, choices: int) -> None:
        self._stream = stream
        self._interval = interval
        self._held = [_Held() for _ in range(choices)]

    @property
    def headers(self) -> Headers:
        return self._stream.headers

    def on_prompt(self, choice: Choice, logprobs: list[TokenLogprobs]) -> None:
        self._stream.on_prompt(choice, logprobs)

    def on_text(self, choice: Choice, text: str, tokens: SequenceTokens, finish: Finish | None) -> None:
        held = self._held[choice.index]
        held.add(text, tokens)
        if held.begun and finish is None and len(held.ids) < self._interval:
            return
        gathered = SequenceTokens(tokens.request_id, held.ids, tokens.finish_reason, held.logprobs or None)
        text = held.text
        held.begun = held.begun or bool(text or held.logprobs)
        held.clear()
        self._stream.on_text(choice, text, gathered, finish)

    def fail(self, error: ApiError) -> None:
        self._stream.fail(error)
