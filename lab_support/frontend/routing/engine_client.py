"""This API server's sequences in flight: submits them to engine cores and delivers their tokens.

Everything here runs in the event loop of one API server; nothing waits. It knows no HTTP and no text.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from lab_support.boundary.messages import (
    Abort,
    EngineCoreGone,
    EngineReady,
    EngineStats,
    Failed,
    Fatal,
    Generate,
    Loads,
    Message,
    PromptScores,
    SequenceTokens,
    ToEngineCore,
    Tokens,
)
from lab_support.frontend.routing.router import Router
from lab_support.generation import SamplingParams, TokenLogprobs

log = logging.getLogger("lab.api")


class Sink(Protocol):
    """Receives the tokens of one sequence. It must not wait, because the event loop's reader calls it directly."""

    def on_prompt_logprobs(self, logprobs: list[TokenLogprobs]) -> None:
        """Log-probabilities of the next tokens of its prompt, if requested; all come before its first token."""

    def on_cached_tokens(self, count: int) -> None:
        """So many tokens of its prompt were in the prefix cache; comes before its first token, if there are any."""

    def on_tokens(self, tokens: SequenceTokens) -> None: ...

    def on_fatal(self, fatal: Fatal) -> None: ...

    def on_defect(self, error: BaseException) -> None:
        """A method of this sink raised `error`. The sequence has been aborted, and nothing more of it comes."""


class Sender(Protocol):
    """Sends messages to engine cores: `ApiServerChannels` of `boundary/channels.py`."""

    def send(self, engine_index: int, message: ToEngineCore) -> None:
        """Raises `EngineCoreGone`."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submitted sequence. `request_id` is never used again in this API server."""

    request_id: int
    engine_index: int


@dataclass
class EngineClient:
    """The engine cores, as an API server sees them."""

    sender: Sender
    client_index: int
    client_count: int
    engine_count: int
    on_stats: Callable[[EngineStats], None] = lambda stats: None
    on_ready: Callable[[], None] = lambda: None  # called once, when every engine core is ready
    fatal: Fatal | None = None
    max_model_len: int = 0  # tokens; 0 until the first engine core is ready
    device: str = ""  # where engine cores compute; "" until the first one is ready
    stand_in: str = ""  # in words, if they only stand in for a device
    _ready: set[int] = field(default_factory=set)
    _in_flight: dict[int, tuple[Sink, int]] = field(default_factory=dict)
    _next_id: int = 0
    _next_parent: int = 0

    def __post_init__(self) -> None:
        self._router = Router(self.engine_count, self.client_index, self.client_count)

    @property
    def ready(self) -> bool:
        """Has every engine core reported ready, and no process a fatal error?"""
        return len(self._ready) == self.engine_count and self.fatal is None

    def new_parent(self) -> int:
        """A new id for a client's request. Its sequences are submitted under this id and share one turn."""
        self._next_parent += 1
        return self._next_parent

    def submit(
        self,
        prompt_token_ids: list[int],
        sampling: SamplingParams,
        sink: Sink,
        engine_index: int | None = None,
        *,
        parent_id: int | None = None,
        cache_salt: bytes = b"",
    ) -> Submitted:
        """Ask an engine core for one sequence; its tokens go to `sink` until it ends or is aborted.

        parent_id: from `new_parent`; without it the sequence is a client's request by itself. cache_salt: as in
        `Generate`.
        Raises `EngineCoreGone` if the engine core has ended and the launcher has not reported it yet.
        """
        chosen = self._router.choose(engine_index)
        self._next_id += 1
        parent_id = self.new_parent() if parent_id is None else parent_id
        message = Generate(self.client_index, self._next_id, prompt_token_ids, sampling, parent_id, cache_salt)
        try:
            self.sender.send(chosen, message)
        except BaseException:
            self._router.done(chosen)
            raise
        self._in_flight[self._next_id] = (sink, chosen)
        return Submitted(self._next_id, chosen)

    def abort(self, submitted: Submitted) -> None:
        """Abort a sequence; its sink is not called any more. Does nothing if it has ended."""
        if self._in_flight.pop(submitted.request_id, None):
            self._router.done(submitted.engine_index)
            with suppress(EngineCoreGone):
                self.sender.send(submitted.engine_index, Abort(self.client_index, [submitted.request_id]))

    def fail(self, fatal: Fatal) -> None:
        """The server can't go on: tell every open sequence, once, and refuse new ones."""
        self.fatal = self.fatal or fatal
        failed, self._in_flight = self._in_flight, {}
        for sink, engine_index in failed.values():
            self._router.done(engine_index)
            try:
                sink.on_fatal(fatal)
            except Exception:  # the others must still be told
                log.exception("a request could not be told that the server ends")

    def on_message(self, message: Message) -> None:
        """Handle a message from an engine core or the coordinator."""
        match message:
            case Tokens():
                self._deliver(message)
            case EngineStats():
                self.on_stats(message)
            case Loads():
                self._router.update(message.engines)
            case Failed():
                if found := self._in_flight.get(message.request_id):
                    self._fail_alone(Submitted(message.request_id, found[1]), found[0], RuntimeError(message.cause))
            case EngineReady():
                self._ready.add(message.engine_index)
                self.device, self.stand_in = message.device, message.stand_in
                self._promise(message.max_model_len)
                if self.ready:
                    self.on_ready()

    def _promise(self, max_model_len: int) -> None:
        """Promise clients the least limit of all engine cores, because any of them may get a request."""
        self.max_model_len = min(max_model_len, self.max_model_len or max_model_len)

    def _deliver(self, step: Tokens) -> None:
        for told in step.prompts:
            self._deliver_prompt(told)
        for cached in step.cached:
            if found := self._in_flight.get(cached.request_id):
                found[0].on_cached_tokens(cached.count)
        for tokens in step.sequences:
            found = self._in_flight.get(tokens.request_id)
            if found is None:
                continue  # aborted while these tokens were on their way
            sink, engine_index = found
            if tokens.finish_reason is not None:
                del self._in_flight[tokens.request_id]
                self._router.done(engine_index)
            try:  # no function shared with `_deliver_prompt`, because its call would cost a twentieth of all this
                sink.on_tokens(tokens)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic in a Rust library is not an Exception
                self._fail_alone(Submitted(tokens.request_id, engine_index), sink, error)

    def _deliver_prompt(self, told: PromptScores) -> None:
        found = self._in_flight.get(told.request_id)
        if found is None:
            return
        sink, engine_index = found
        try:
            sink.on_prompt_logprobs(told.logprobs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._fail_alone(Submitted(told.request_id, engine_index), sink, error)

    def _fail_alone(self, submitted: Submitted, sink: Sink, error: BaseException) -> None:
        """Fail only the sequence whose sink raised: the others in the same message are not affected."""
        log.error("the tokens of one request could not be handled, so it alone fails", exc_info=error)
        self.abort(submitted)
        try:
            sink.on_defect(error)
        except Exception:
            log.exception("that request could not be told either")
