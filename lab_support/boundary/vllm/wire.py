"""vLLM's engine-core protocol on our messages, so that a front end of vLLM's can ask our engine core. Open this first.

A request is two frames, a byte for its kind and msgpack; an answer is one, msgpack (layouts.py). A field that could
change an answer and that this engine core doesn't have fails its request, and no other one, as an error does in vLLM
(sampling.py).

Runs in an engine core: `Conversation.read` in its input thread, `write` in its output thread.
"""

import hashlib
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq

from lab_support.boundary.channels import EngineCoreChannels
from lab_support.boundary.messages import (
    Abort,
    EngineReady,
    EngineStats,
    Generate,
    Message,
    SequenceTokens,
    ToEngineCore,
    Tokens,
    encode,
)
from lab_support.boundary.vllm.layouts import (
    ABORT,
    ERROR,
    AddRequest,
    Unreadable,
    UtilityCall,
    body_of,
    logprobs_arrays,
    output,
    pack,
    prefill_stats,
    ready_message,
    scheduler_stats,
    utility_answer,
)
from lab_support.boundary.vllm.sampling import Refused, end_token, of_probabilities, sampling_of
from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs

log = logging.getLogger("lab.engine")


@dataclass
class Open:
    """A request that has not ended. end: the model's end token, if it may end this one. scored: log-probabilities of
    the prompt that have come so far. told: whether its first tokens have been told."""

    name: str
    prompt: list[int]
    sampling: SamplingParams
    end: int | None
    scored: list[TokenLogprobs] = field(default_factory=list)
    told: bool = False


class Conversation:
    """One front end's requests in one engine core, by vLLM's ids, which are strings, and by ours.

    numbers: gives each request a number that no request of this engine core had before, of a front end that has ended
    either: tokens of such a one may still be on their way. vocabulary: the number of token ids. names_ended: the front
    end is told by name which requests have ended, aborted ones too: vLLM's balancing of data-parallel ranks needs that.
    """

    def __init__(
        self, client_index: int, ready: EngineReady, numbers: Iterator[int], vocabulary: int, names_ended: bool = False
    ) -> None:
        self._client_index, self._engine_index, self._new_numbers = client_index, ready.engine_index, numbers
        self._limit, self._vocabulary, self._stand_in = ready.max_model_len, vocabulary, ready.stand_in
        self._numbers: dict[str, int] = {}
        self._open: dict[int, Open] = {}
        self._counted = (0, 0)
        self._names_ended = names_ended
        self._lock = threading.Lock()  # both threads know the requests

    def read(self, frames: Sequence[bytes]) -> tuple[list[ToEngineCore], list[bytes]]:
        """A message of the front end: messages for the engine core, and answers that can be given at once."""
        try:
            body = body_of(frames)
        except Unreadable as why:
            log.warning("API server %d: %s", self._client_index, why)
            return [], [self._error(why.request_id, why)] if why.request_id else []
        with self._lock:
            return self._read(frames[0], body)

    def _read(self, kind: bytes, body: Any) -> tuple[list[ToEngineCore], list[bytes]]:
        if isinstance(body, AddRequest):
            try:
                return [self._generate(body)], []
            except Refused as why:
                return [], [self._error(body.request_id, why)]
        if isinstance(body, UtilityCall):
            return [], [self._pack_outputs(utility=utility_answer(body))]
        names = [each for each in body if each in self._numbers] if kind == ABORT else []
        if not names:
            return [], []
        aborted = Abort(self._client_index, [self._forget(each) for each in names])
        return [aborted], [self._pack_outputs(ended=names)] if self._names_ended else []

    def _error(self, request_id: str, why: ValueError) -> bytes:
        error = {"code": "validation_error", "message": str(why), "retryable": False}
        ended = [request_id] if self._names_ended else None
        return self._pack_outputs([output(request_id, [], finish=ERROR, error=error)], ended=ended)

    def _forget(self, request_id: str) -> int:
        """End a request, of which nothing will be told any more. Its number in this engine core."""
        number = self._numbers.pop(request_id)
        self._open.pop(number, None)
        return number

    def _generate(self, asked: AddRequest) -> Generate:
        prompt = asked.prompt_token_ids
        if asked.request_id in self._numbers:
            raise Refused(f"got the id {asked.request_id!r} twice; give each request one of its own")
        if not prompt or asked.mm_features or asked.prompt_embeds is not None or asked.sampling_params is None:
            raise Refused("got a request without token ids to go on from; this engine core generates text from text")
        if asked.lora_request is not None or asked.resumable:
            raise Refused("got a LoRA adapter or a resumable request, which this engine core does not have")
        if max(prompt) >= self._vocabulary:
            raise Refused(f"got the token id {max(prompt)}, expected ids below {self._vocabulary}")
        if len(prompt) >= self._limit:
            raise Refused(f"got a prompt of {len(prompt)} tokens, expected fewer than {self._limit}")
        sampling = sampling_of(asked.sampling_params, self._limit - len(prompt), self._vocabulary)
        if self._stand_in and (refused := of_probabilities(sampling)):
            raise Refused(f"got {refused}, but this engine core is a {self._stand_in}: it computes no probabilities")
        number = next(self._new_numbers)
        self._numbers[asked.request_id] = number
        self._open[number] = Open(asked.request_id, prompt, sampling, end_token(asked.sampling_params))
        salt = hashlib.sha256(asked.cache_salt.encode()).digest() if asked.cache_salt else b""
        return Generate(self._client_index, number, prompt, sampling, number, salt)

    # ---- answers

    def write(self, message: Tokens | EngineStats) -> bytes | None:
        """`EngineCoreOutputs` for what one step has made for this front end, or for the state after it.

        None if there is nothing to tell: vllm-rs takes an answer without any content for the end of its engine core.
        """
        if isinstance(message, EngineStats):
            return self._pack_outputs(stats=self._scheduler_stats(message))
        with self._lock:
            for prompt in message.prompts:
                if prompt.request_id in self._open:
                    self._open[prompt.request_id].scored += prompt.logprobs
            cached = {each.request_id: each.count for each in message.cached}
            # Those that are not open were aborted meanwhile.
            outputs = [self._told(each, cached) for each in message.sequences if each.request_id in self._open]
        ended = [each[0] for each in outputs if each[5:6] not in ([], [None])] if self._names_ended else None
        return self._pack_outputs(outputs, ended=ended) if outputs else None

    def _told(self, tokens: SequenceTokens, cached: dict[int, int]) -> list[Any]:
        request = self._open[tokens.request_id]
        asked = request.sampling
        first = not request.told
        request.told = True
        if tokens.finish_reason is not None:
            self._forget(request.name)
        return output(
            request.name,
            tokens.token_ids,
            logprobs=tokens.logprobs and logprobs_arrays(tokens.token_ids, tokens.logprobs, asked.logprobs or 0),
            prompt=_prompt_logprobs(request) if first else None,
            finish=tokens.finish_reason,
            stop_reason=_stop_reason(tokens, request.end),
            prefill=prefill_stats(len(request.prompt), cached.get(tokens.request_id, 0)) if first else None,
        )

    def _scheduler_stats(self, stats: EngineStats) -> dict[str, Any]:
        queries, hits = stats.prefix_cache_queries, stats.prefix_cache_hits
        before, self._counted = self._counted, (queries, hits)
        return scheduler_stats(stats, queries - before[0], hits - before[1])

    def _pack_outputs(
        self, outputs: Sequence[Any] = (), *, stats: Any = None, utility: Any = None, ended: list[str] | None = None
    ) -> bytes:
        told = [self._engine_index, outputs, stats, time.monotonic(), utility]
        return pack([*told, ended] if ended else told)


def _prompt_logprobs(request: Open) -> list[Any] | None:
    if not request.scored:
        return None
    return logprobs_arrays(request.prompt[1:], request.scored, request.sampling.prompt_logprobs or 0, np=False)


def _stop_reason(told: SequenceTokens, end: int | None) -> int | None:
    """The stop token that ended it. The model's own end token is no reason to be told, as in vLLM."""
    ended = told.finish_reason == FinishReason.STOP and told.token_ids[-1] != end
    return told.token_ids[-1] if ended else None


class Answer(Message, frozen=True):
    """One that is packed already, on its way from the input thread to the output thread."""

    body: bytes


class VllmChannels(EngineCoreChannels):
    """As `EngineCoreChannels`. settings: block_size, dtype and the like, which the front end is told.

    vocabulary: the number of token ids.
    """

    names_ended = False

    def __init__(self, *given: Any, settings: dict[str, Any], vocabulary: int, **more: Any) -> None:
        super().__init__(*given, **more)
        self._settings, self._vocabulary = settings, vocabulary
        self._conversations: dict[int, Conversation] = {}
        self._numbers = itertools.count()

    def _hello(self, client_index: int) -> bytes:
        given = (client_index, self._ready, self._numbers, self._vocabulary, self.names_ended)
        self._conversations[client_index] = Conversation(*given)
        return ready_message(self._ready, self._settings)

    def _messages(self, dealer: zmq.Socket) -> Iterator[ToEngineCore]:
        client_index = next(index for index, each in self._dealers.items() if each is dealer)
        conversation = self._conversations[client_index]
        while dealer.poll(0):
            asked, answers = conversation.read(dealer.recv_multipart(zmq.NOBLOCK))
            yield from asked
            if answers:
                self.outbox.put([(client_index, Answer(answer)) for answer in answers])

    def _frame(self, destination: int, message: Message) -> bytes | None:
        if isinstance(message, Answer):
            return message.body
        if isinstance(message, Tokens | EngineStats) and destination in self._conversations:
            return self._conversations[destination].write(message)
        return encode(message)
