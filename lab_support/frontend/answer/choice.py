"""One sequence on its way to a client: it turns token ids into text, finds stop strings and counts tokens.

It is the sink that the engine client calls once a step. It does not know whether its text is streamed or collected,
because its answer decides that (`answer/streaming.py`, `answer/whole_answer.py`).
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from lab_support.boundary.messages import Fatal, SequenceTokens
from lab_support.frontend.answer.stop_strings import StopStrings
from lab_support.frontend.http.errors import ApiError, defect, from_fatal, refused_by_engine
from lab_support.frontend.request.openai_api import Finish
from lab_support.frontend.routing.engine_client import Submitted
from lab_support.frontend.text.detokenizer import Detokenizer
from lab_support.frontend.trace.request_trace import Meter
from lab_support.generation import FinishReason, TokenLogprobs


class Answer(Protocol):
    """Receives the text of choices. `finish` is set with a choice's last text."""

    def on_prompt(self, choice: "Choice", logprobs: list[TokenLogprobs]) -> None:
        """Log-probabilities of the next tokens of its prompt; all of them come before its first text."""

    def on_text(self, choice: "Choice", text: str, tokens: SequenceTokens, finish: Finish | None) -> None: ...

    def fail(self, error: ApiError) -> None:
        """The answer has failed. May be called for each of its choices; only the first call counts."""


class Choice:
    """Choice `index` of an answer. Set `submitted` and `meter` when it is submitted, before any token can come.

    min_tokens: a stop string that ends within this many tokens is ignored. arrived_at: `time.monotonic()` when its
    request arrived. cached_tokens: of its prompt, in the engine core's prefix cache.
    """

    __slots__ = (
        "_abandoned",
        "_abort",
        "_answer",
        "_detokenizer",
        "_first_at",
        "_last_at",
        "_min_tokens",
        "_stop_token_ids",
        "_stops",
        "arrived_at",
        "cached_tokens",
        "finish",
        "index",
        "meter",
        "submitted",
        "tokens",
    )

    meter: Meter
    submitted: Submitted

    def __init__(
        self,
        answer: Answer,
        index: int,
        detokenizer: Detokenizer,
        stops: StopStrings | None,
        hidden_stop_ids: frozenset[int],
        min_tokens: int,
        abort: Callable[[Submitted], None],
        arrived_at: float,
    ) -> None:
        self.index = index
        self.tokens = self.cached_tokens = 0
        self.finish: Finish | None = None
        self.arrived_at = arrived_at
        self._answer = answer
        self._detokenizer = detokenizer
        self._stops = stops
        self._stop_token_ids = hidden_stop_ids
        self._min_tokens = min_tokens
        self._abort = abort
        self._first_at = self._last_at = 0.0
        self._abandoned = False

    def on_tokens(self, tokens: SequenceTokens) -> None:
        """The hot path of an API server: called for every token that it streams."""
        started = monotonic()
        ids = tokens.token_ids
        if tokens.finish_reason is None:
            self.tokens += len(ids)
            text = self._detokenizer.push(ids)
        elif tokens.finish_reason is FinishReason.ABORT:
            self._answer.fail(refused_by_engine(self.submitted.engine_index))
            return
        else:
            self.tokens += len(ids)
            text = self._last_text(tokens)
        if self._stops is not None:
            text = self._up_to_stop(self._stops, text)
        decoded = monotonic()
        self._answer.on_text(self, text, tokens, self.finish)
        self.meter.on_step(len(ids), self._last_at, started, decoded, monotonic())
        if not self._last_at:
            self._first_at = started
            if ids:
                self.meter.first_token(started - self.arrived_at)
        self._last_at = started
        if self.finish is not None:
            self.meter.ended(self.finish, started - self.arrived_at, self._seconds_per_token(started), self.tokens)

    def on_cached_tokens(self, count: int) -> None:
        self.cached_tokens = count

    def on_prompt_logprobs(self, logprobs: list[TokenLogprobs]) -> None:
        self._answer.on_prompt(self, logprobs)

    def on_fatal(self, fatal: Fatal) -> None:
        self._answer.fail(from_fatal(fatal))

    def on_defect(self, error: BaseException) -> None:
        self._answer.fail(defect(error))

    def abandon(self) -> None:
        """No client waits for it any more: abort it in the engine core, unless it has ended. May be called again."""
        if self.finish is None and not self._abandoned:
            self._abandoned = True
            self._abort(self.submitted)
            self.meter.aborted()

    def _seconds_per_token(self, now: float) -> float:
        """Mean time from token to token, in seconds."""
        return (now - self._first_at) / (self.tokens - 1) if self.tokens > 1 else 0.0

    def _last_text(self, tokens: SequenceTokens) -> str:
        ids = tokens.token_ids
        stopped = tokens.finish_reason is FinishReason.STOP
        self.finish = "stop" if stopped else "length"
        if stopped and ids and ids[-1] in self._stop_token_ids:
            ids = ids[:-1]
        return self._detokenizer.push(ids) + self._detokenizer.finish()

    def _up_to_stop(self, stops: StopStrings, text: str) -> str:
        text = stops.push(text, self.tokens <= self._min_tokens)
        if stops.matched is not None:
            if self.finish is None:
                self._abort(self.submitted)
            self.finish = "stop"
        elif self.finish is not None:
            text += stops.flush()
        return text
