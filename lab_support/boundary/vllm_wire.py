"""vLLM's engine-core protocol on our messages, so that a front end of vLLM's can ask our engine core.

A request is two frames, a byte for its kind and msgpack; an answer is one, msgpack. The layouts are vLLM 0.33.0's
(vllm/v1/engine/__init__.py, serial_utils.py, sampling_params.py); 0.32.0 differs only in fields at the end of an array,
which neither side needs. A field that could change an answer and that this engine core doesn't have fails its request,
and no other one, as an error does in vLLM. vLLM's own decoder can also read pickles (`MsgpackDecoder.ext_hook`, if
VLLM_ALLOW_INSECURE_SERIALIZATION is set): here is no such way, and an extension type is refused.

Runs in an engine core: `read` in its input thread, `write` in its output thread.
"""

import array
import hashlib
import itertools
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import zmq
from msgspec import Meta

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
from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs

log = logging.getLogger("lab.engine")

SPOKEN = "0.33.0"
"""The version of vLLM whose layouts these are."""

ADD, ABORT, START_DP_WAVE, UTILITY = b"\x00", b"\x01", b"\x02", b"\x03"
ERROR = 3
"""vLLM's finish reason for a request that failed; 0 to 2 are ours, too."""
RAW_VIEW = 3
"""The msgpack extension type of an array's bytes."""
MOST_LOGPROBS = 20


class Answer(Message, frozen=True):
    """One that is packed already, on its way from the input thread to the output thread."""

    body: bytes


class Unreadable(ValueError):
    """A message outside of the protocol. request_id: of the request that it seems to be; "" if it has none."""

    def __init__(self, why: str, request_id: str = "") -> None:
        super().__init__(why)
        self.request_id = request_id


class Refused(ValueError):
    """A request that can't be served. The words say what was got, and what to do."""


# ---- what a front end sends ------------------------------------------------------------------------------------------


class AddRequest(msgspec.Struct, array_like=True, gc=False):
    """The fields of `EngineCoreRequest`. Further ones, of a later version, are not read."""

    request_id: str
    prompt_token_ids: list[Annotated[int, Meta(ge=0)]] | None
    mm_features: Any
    sampling_params: dict[str, Any] | None
    pooling_params: Any
    arrival_time: float
    lora_request: Any
    cache_salt: str | None
    data_parallel_rank: int | None
    prompt_embeds: Any = None
    prompt_is_token_ids: Any = None
    client_index: int = 0
    current_wave: int = 0
    priority: int = 0
    trace_headers: Any = None
    resumable: bool = False


class UtilityCall(msgspec.Struct, array_like=True, gc=False):
    """A call of a method of vLLM's engine core. Its result is awaited."""

    client_index: int
    call_id: int
    method: str
    arguments: Any = None


_READERS = {
    kind: msgspec.msgpack.Decoder(layout)
    for kind, layout in ((ADD, AddRequest), (ABORT, list[str]), (UTILITY, UtilityCall), (START_DP_WAVE, Any))
}


def body_of(frames: Sequence[bytes]) -> Any:
    """An `AddRequest`, a `UtilityCall`, the ids to abort, or what a wave of data parallelism is told, which is nothing
    to one engine core. Raises `Unreadable`."""
    if len(frames) < 2 or frames[0] not in _READERS:
        raise Unreadable(f"got {len(frames)} frames, the first {frames[0][:8]!r}, expected a kind and its body")
    try:
        return _READERS[frames[0]].decode(frames[1])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"got a message that vLLM {SPOKEN} doesn't send: {error}", _id_in(frames)) from error


def _id_in(frames: Sequence[bytes]) -> str:
    """The id of a request whose other fields can't be read, so that its front end need not wait; otherwise ""."""
    try:
        found = msgspec.msgpack.decode(frames[1]) if frames[0] == ADD else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return found[0] if isinstance(found, list) and found and isinstance(found[0], str) else ""


class VllmSampling(msgspec.Struct, kw_only=True, gc=False):
    """Those of vLLM's sampling parameters that this engine core obeys, with their bounds there."""

    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0)] = 1.0
    temperature: Annotated[float, Meta(ge=0)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=-1)] = 0
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = 16
    min_tokens: Annotated[int, Meta(ge=0)] = 0
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None


LEFT_TO_THE_FRONT_END = {
    *("n", "stop", "detokenize", "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output"),
    *("output_kind", "stream_interval", "output_text_buffer_length", "flat_logprobs", "skip_clone"),
    *("ignore_eos", "_eos_token_id", "_all_stop_token_ids", "_watermarking_skipped", "routed_experts_prompt_start"),
    "skip_reading_prefix_cache",  # a request with prompt_logprobs goes past the cache here, too
    "watermarking",  # by the engine's configured watermark, and this one has none
}
"""Sampling parameters that change nothing in an engine core, or that it finds out by itself."""

_NOTHING: tuple[Any, ...] = (None, False, [], {})


def sampling_of(asked: dict[str, Any], room: int, vocabulary: int) -> SamplingParams:
    """Our parameters for vLLM's. room: tokens that the context has left. Raises `Refused`."""
    unknown = asked.keys() - set(VllmSampling.__struct_fields__) - LEFT_TO_THE_FRONT_END
    if refused := sorted(name for name in unknown if asked[name] not in _NOTHING):
        raise Refused(f"got {', '.join(refused)}, which this engine core does not have; leave it out")
    if not all(map(math.isfinite, (each for each in asked.values() if isinstance(each, float)))):
        raise Refused("got a sampling parameter that is no finite number; give a number")
    try:
        found = msgspec.convert(asked, VllmSampling)
    except msgspec.ValidationError as error:
        raise Refused(f"got sampling parameters that vLLM {SPOKEN} would refuse: {error}") from error
    max_tokens = min(room, found.max_tokens or room)
    if found.min_tokens > max_tokens:
        raise Refused(f"got min_tokens {found.min_tokens}, expected at most max_tokens, {max_tokens}")
    end = _end_token(asked)
    ends = (*([] if end is None else [end]), *(found.stop_token_ids or ()))
    if any(not 0 <= each < vocabulary for each in ends):
        raise Refused(f"got end token and stop_token_ids {list(ends)}, expected ids from 0 to {vocabulary - 1}")
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=found.min_tokens,
        temperature=found.temperature,
        top_p=found.top_p,
        top_k=max(found.top_k, 0),
        min_p=found.min_p,
        presence_penalty=found.presence_penalty,
        frequency_penalty=found.frequency_penalty,
        repetition_penalty=found.repetition_penalty,
        seed=found.seed,
        ignore_eos=True,  # the front end says which token ends this request, if any does
        stop_token_ids=ends,
        logprobs=found.logprobs,
        prompt_logprobs=found.prompt_logprobs,
    )


def _of_probabilities(sampling: SamplingParams) -> str:
    """Those of its parameters that say something of probabilities, which a stand-in for a GPU doesn't have."""
    asked = {
        "logprobs": sampling.logprobs is not None,
        "prompt_logprobs": sampling.prompt_logprobs is not None,
        "presence_penalty": sampling.presence_penalty != 0,
        "frequency_penalty": sampling.frequency_penalty != 0,
        "repetition_penalty": sampling.repetition_penalty != 1,
    }
    return ", ".join(name for name, is_asked in asked.items() if is_asked)


def _end_token(asked: dict[str, Any]) -> int | None:
    """The model's end token, which is left out under `ignore_eos`."""
    end = asked.get("_eos_token_id")
    return end if isinstance(end, int) else None


# ---- what it is sent -------------------------------------------------------------------------------------------------


def ready_message(ready: EngineReady, settings: dict[str, Any]) -> bytes:
    """`EngineCoreReadyResponse`: an engine core's first message. settings: block_size, max_num_seqs and the like."""
    return _pack(
        {
            "max_model_len": ready.max_model_len,
            "num_gpu_blocks": ready.total_blocks,
            "dp_stats_address": None,
            "vllm_version": SPOKEN,
            "world_size": 1,
            "tensor_parallel_size": 1,
            "pipeline_parallel_size": 1,
            "decode_context_parallel_size": 1,
            "data_parallel_rank": ready.engine_index,
            "instance_id": f"engine-{ready.engine_index}",
            "supports_lora": False,
            "max_loras": 0,
            **settings,
        }
    )


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
    either: tokens of such a one may still be on their way. vocabulary: the number of token ids.
    """

    def __init__(self, client_index: int, ready: EngineReady, numbers: Iterator[int], vocabulary: int) -> None:
        self._client_index, self._engine_index, self._new_numbers = client_index, ready.engine_index, numbers
        self._limit, self._vocabulary, self._stand_in = ready.max_model_len, vocabulary, ready.stand_in
        self._numbers: dict[str, int] = {}
        self._open: dict[int, Open] = {}
        self._counted = (0, 0)
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
        known = [self._forget(each) for each in body if each in self._numbers] if kind == ABORT else []
        return ([Abort(self._client_index, known)] if known else []), []

    def _error(self, request_id: str, why: ValueError) -> bytes:
        error = {"code": "validation_error", "message": str(why), "retryable": False}
        return self._pack_outputs([_output(request_id, [], finish=ERROR, error=error)])

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
        if self._stand_in and (refused := _of_probabilities(sampling)):
            raise Refused(f"got {refused}, but this engine core is a {self._stand_in}: it computes no probabilities")
        number = next(self._new_numbers)
        self._numbers[asked.request_id] = number
        self._open[number] = Open(asked.request_id, prompt, sampling, _end_token(asked.sampling_params))
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
        return self._pack_outputs(outputs) if outputs else None

    def _told(self, tokens: SequenceTokens, cached: dict[int, int]) -> list[Any]:
        request = self._open[tokens.request_id]
        asked = request.sampling
        first = not request.told
        request.told = True
        if tokens.finish_reason is not None:
            self._forget(request.name)
        return _output(
            request.name,
            tokens.token_ids,
            logprobs=tokens.logprobs and _logprobs(tokens.token_ids, tokens.logprobs, asked.logprobs or 0),
            prompt=_prompt_logprobs(request) if first else None,
            finish=tokens.finish_reason,
            stop_reason=_stop_reason(tokens, request.end),
            prefill=_prefill_stats(len(request.prompt), cached.get(tokens.request_id, 0)) if first else None,
        )

    def _scheduler_stats(self, stats: EngineStats) -> dict[str, Any]:
        queries, hits = stats.prefix_cache_queries, stats.prefix_cache_hits
        before, self._counted = self._counted, (queries, hits)
        used = stats.total_blocks - stats.free_blocks
        return _SCHEDULER_STATS | {
            "num_running_reqs": stats.running,
            "num_waiting_reqs": stats.waiting,
            "kv_cache_usage": used / stats.total_blocks if stats.total_blocks else 0.0,
            "prefix_cache_stats": _CACHE_STATS | {"queries": queries - before[0], "hits": hits - before[1]},
        }

    def _pack_outputs(self, outputs: Sequence[Any] = (), *, stats: Any = None, utility: Any = None) -> bytes:
        return _pack([self._engine_index, outputs, stats, time.monotonic(), utility])


# vllm-rs wants every field of these two, and every field but the defaults of an array's end.
_SCHEDULER_STATS = {
    "num_skipped_waiting_reqs": 0,
    "num_kv_fetch_reqs_by_stage": {},
    "step_counter": 0,
    "current_wave": 0,
    "kv_cache_eviction_events": [],
    "waiting_lora_adapters": {},
    "running_lora_adapters": {},
}
_CACHE_STATS = {"reset": False, "requests": 0, "queries": 0, "hits": 0} | dict.fromkeys(
    ("preempted_requests", "preempted_queries", "preempted_hits"), 0
)


def _prefill_stats(prompt: int, cached: int) -> dict[str, int]:
    """`PrefillStats`: tokens of a prompt, of which `cached` were in the prefix cache."""
    return {
        "num_prompt_tokens": prompt,
        "num_computed_tokens": prompt - cached,
        "num_cached_tokens": cached,
        "num_local_cached_tokens": cached,
        "num_external_cached_tokens": 0,
        "num_cache_creation_tokens": 0,
    }


def _prompt_logprobs(request: Open) -> list[Any] | None:
    if not request.scored:
        return None
    return _logprobs(request.prompt[1:], request.scored, request.sampling.prompt_logprobs or 0, np=False)


def utility_answer(call: UtilityCall) -> list[Any]:
    """`UtilityOutput`: the result of a call that has one here, or in words that there is none."""
    if call.method in _RESULTS:
        return [call.call_id, None, [None, _RESULTS[call.method]]]
    return [call.call_id, f"got a call of {call.method}, which this engine core does not have", None]


_RESULTS: dict[str, Any] = {
    "get_supported_tasks": ["generate"],
    "is_sleeping": False,
    "is_scheduler_paused": False,
    "list_loras": [],
    "reset_mm_cache": None,
    "reset_encoder_cache": None,
}


def _output(
    name: str,
    token_ids: list[int],
    *,
    logprobs: Any = None,
    prompt: Any = None,
    finish: int | None = None,
    stop_reason: int | None = None,
    prefill: dict[str, int] | None = None,
    error: dict[str, Any] | None = None,
) -> list[Any]:
    """`EngineCoreOutput`; fields at the end that say nothing are left out."""
    fields = [name, token_ids, logprobs, prompt, None, finish, stop_reason, None, None, None, None, prefill]
    if error:
        fields += [None, 0, None, None, None, None, error]
    while len(fields) > 2 and fields[-1] is None:
        fields.pop()
    return fields


def _stop_reason(told: SequenceTokens, end: int | None) -> int | None:
    """The stop token that ended it. The model's own end token is no reason to be told, as in vLLM."""
    ended = told.finish_reason == FinishReason.STOP and told.token_ids[-1] != end
    return told.token_ids[-1] if ended else None


def _logprobs(token_ids: Sequence[int], found: Sequence[TokenLogprobs], count: int, *, np: bool = True) -> list[Any]:
    """LogprobsLists (numpy arrays), or LogprobsTensors: ids and log-probabilities [tokens, 1 + count], ranks [tokens].

    A token stands first in its row, then the likeliest ones.
    """
    count = min(count, *(len(one.top) for one in found))
    ids, values = array.array("i"), array.array("f")
    for token, one in zip(token_ids, found, strict=True):
        top = list(one.top[:count])
        ids.extend([token, *(other for other, _ in top)])
        values.extend([one.logprob, *(value for _, value in top)])
    ranks = array.array("i", (one.rank for one in found))
    kinds = ("<i4", "<f4") if np else ("int32", "float32")
    shape = [len(found), 1 + count]
    return [_array(kinds[0], shape, ids), _array(kinds[1], shape, values), _array(kinds[0], [len(found)], ranks), None]


def _array(kind: str, shape: list[int], values: array.array) -> list[Any]:
    return [kind, shape, msgspec.msgpack.Ext(RAW_VIEW, values.tobytes())]


# ---- sockets ---------------------------------------------------------------------------------------------------------


class VllmChannels(EngineCoreChannels):
    """As `EngineCoreChannels`. settings: block_size, dtype and the like, which the front end is told.

    vocabulary: the number of token ids.
    """

    def __init__(self, *given: Any, settings: dict[str, Any], vocabulary: int, **more: Any) -> None:
        super().__init__(*given, **more)
        self._settings, self._vocabulary = settings, vocabulary
        self._conversations: dict[int, Conversation] = {}
        self._numbers = itertools.count()

    def _hello(self, client_index: int) -> bytes:
        self._conversations[client_index] = Conversation(client_index, self._ready, self._numbers, self._vocabulary)
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


_pack = msgspec.msgpack.Encoder().encode
