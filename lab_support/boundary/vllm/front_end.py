"""vLLM's engine-core protocol from its other side: an API server of ours asks vLLM's own engine core.

What an API server sends and receives stays as it is (messages.py); only the bytes are vLLM's. `Asking` translates,
`VllmApiServerChannels` carries. wire.py has the opposite: a front end of vLLM's asks an engine core of ours.

A request goes as three frames, the engine core's identity, a byte for its kind and msgpack; what comes is outputs.py.
Runs in an API server.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import zmq

from lab_support.boundary.channels import ApiServerChannels
from lab_support.boundary.messages import (
    Abort,
    CachedTokens,
    EngineReady,
    EngineStats,
    Failed,
    Generate,
    Message,
    PromptScores,
    SequenceTokens,
    ToEngineCore,
    Tokens,
)
from lab_support.boundary.vllm.layouts import ABORT, ADD, pack
from lab_support.boundary.vllm.outputs import (
    ENGINE_CORE_DEAD,
    CoreOutput,
    Illegible,
    PrefillStats,
    Stats,
    core_outputs,
    ready_response,
    token_logprobs,
)
from lab_support.generation import FinishReason, SamplingParams

log = logging.getLogger("lab.api")

_OURS = {reason.value: reason for reason in FinishReason}


class Asking:
    """One API server's requests and answers. end_token_ids: by which the model ends its output.

    vLLM knows no request that asks for no token: the one that it makes for such a request (`max_tokens` 0, for the
    log-probabilities of its prompt) is not passed on. A request that fails in vLLM fails alone: `Failed`.
    """

    def __init__(self, client_index: int, end_token_ids: Iterable[int]) -> None:
        self._prefix = f"{client_index}-"  # vLLM's ids are strings, and must differ over all API servers
        self._ends = sorted(end_token_ids)
        self._without_tokens: set[int] = set()
        self._blocks = 0
        self._totals = {"steps": 0, "prompt_tokens": 0, "generation_tokens": 0, "queries": 0, "hits": 0}

    def frames(self, message: ToEngineCore) -> list[bytes]:
        """A message of ours in vLLM's two frames."""
        if isinstance(message, Abort):
            self._without_tokens.difference_update(message.request_ids)
            return [ABORT, pack([self._prefix + str(each) for each in message.request_ids])]
        if not message.sampling.max_tokens:
            self._without_tokens.add(message.request_id)
        return [ADD, pack(self._request(message))]

    def _request(self, asked: Generate) -> list[Any]:
        """`EngineCoreRequest`, up to client_index; what follows has defaults."""
        salt = asked.cache_salt.hex() or None
        name = self._prefix + str(asked.request_id)
        sampling = sampling_map(asked.sampling, self._ends)
        request = [name, asked.prompt_token_ids, None, sampling, None, time.time(), None, salt, None]
        return [*request, None, None, asked.client_index]

    # ---- answers

    def ready(self, frame: bytes) -> EngineReady:
        """Raises `Illegible`."""
        found = ready_response(frame)
        self._blocks = found.num_gpu_blocks
        device = f"vLLM {found.vllm_version}"
        return EngineReady(found.data_parallel_rank, found.max_model_len, found.num_gpu_blocks, device)

    def messages(self, frames: Sequence[bytes]) -> Iterator[Message]:
        """Ours for the outputs of one step. Raises `Illegible`."""
        if frames[0] == ENGINE_CORE_DEAD:
            log.error("vLLM's engine core says that it is dead")  # the launcher will say so to the clients
            return
        step = core_outputs(frames)
        tokens = Tokens(step.engine_index, [], [], [])
        failed = []
        for each in step.outputs:
            number = self._number(each)
            try:
                self._tell(tokens, number, each, frames)
            except Illegible as why:  # the others of this step are not to blame
                failed.append(Failed(step.engine_index, number, str(why)))
        if tokens.sequences:
            yield tokens
        yield from failed
        if step.scheduler_stats:
            yield self._stats(step.engine_index, step.scheduler_stats)

    def _tell(self, tokens: Tokens, number: int, told: CoreOutput, frames: Sequence[bytes]) -> None:
        """Add one sequence to the tokens of a step."""
        if told.finish_reason is not None and told.finish_reason not in _OURS:
            raise Illegible(f"vLLM ended it for the reason {told.finish_reason}")
        finish = None if told.finish_reason is None else _OURS[told.finish_reason]
        logprobs = token_logprobs(told.logprobs, frames) if told.logprobs else None
        if told.prompt_logprobs:
            tokens.prompts.append(PromptScores(number, token_logprobs(told.prompt_logprobs, frames)))
        if told.prefill_stats:
            self._add_prefill(tokens, number, told.prefill_stats)
        if number in self._without_tokens:
            self._without_tokens.discard(number)
            tokens.sequences.append(SequenceTokens(number, [], FinishReason.LENGTH))
            return
        self._totals["generation_tokens"] += len(told.new_token_ids)
        tokens.sequences.append(SequenceTokens(number, told.new_token_ids, finish, logprobs))

    def _add_prefill(self, tokens: Tokens, number: int, stats: PrefillStats) -> None:
        self._totals["prompt_tokens"] += stats.num_prompt_tokens - stats.num_cached_tokens
        if stats.num_cached_tokens:
            tokens.cached.append(CachedTokens(number, stats.num_cached_tokens))

    def _number(self, told: CoreOutput) -> int:
        name = told.request_id
        if not name.startswith(self._prefix) or not name[len(self._prefix) :].isdecimal():
            raise Illegible(f"got tokens of {name!r}, which is no request of this API server")
        return int(name[len(self._prefix) :])

    def _stats(self, engine_index: int, stats: Stats) -> EngineStats:
        """The state after a step. Each API server sums up what it was told; all of them together have the totals."""
        totals = self._totals
        totals["steps"] += 1
        if cache := stats.prefix_cache_stats:
            totals["queries"] += cache.queries
            totals["hits"] += cache.hits
        return EngineStats(
            engine_index,
            running=stats.num_running_reqs,
            waiting=stats.num_waiting_reqs + stats.num_skipped_waiting_reqs,
            free_blocks=round(self._blocks * (1 - stats.kv_cache_usage)),
            total_blocks=self._blocks,
            steps=totals["steps"],
            prompt_tokens=totals["prompt_tokens"],
            generation_tokens=totals["generation_tokens"],
            preemptions=0,
            aborts=0,
            abort_steps=0,
            abort_steps_max=0,
            prefix_cache_queries=totals["queries"],
            prefix_cache_hits=totals["hits"],
            stage_seconds={},
        )


def sampling_map(asked: SamplingParams, ends: Sequence[int]) -> dict[str, Any]:
    """vLLM's `SamplingParams` for ours. ends: the model's end tokens.

    vLLM takes the seed -1 for none; modulo 2**64 it is the same seed for the generator.
    """
    ends = () if asked.ignore_eos else ends
    stops = [*asked.stop_token_ids, *ends[1:]]
    return {
        "max_tokens": max(asked.max_tokens, 1),
        "min_tokens": asked.min_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "min_p": asked.min_p,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "repetition_penalty": asked.repetition_penalty,
        "seed": asked.seed % 2**64 if asked.seed == -1 else asked.seed,
        "ignore_eos": asked.ignore_eos,
        "stop_token_ids": stops,
        "logprobs": asked.logprobs,
        "prompt_logprobs": asked.prompt_logprobs,
        "detokenize": False,
        "_eos_token_id": ends[0] if ends else None,
        "_all_stop_token_ids": [*stops, *ends[:1]],
    }


class VllmApiServerChannels(ApiServerChannels):
    """As `ApiServerChannels`, to vLLM's own engine core. asking: translates for this API server."""

    def __init__(self, *given: Any, asking: Asking) -> None:
        super().__init__(*given)
        self._asking = asking

    def _frames(self, message: ToEngineCore) -> list[bytes]:
        return self._asking.frames(message)

    def _messages(self, receiving: zmq.Socket) -> Iterator[Message]:
        while receiving.poll(0):
            frames = receiving.recv_multipart(zmq.NOBLOCK)
            try:
                yield from self._read(receiving, frames)
            except Illegible as why:
                log.error("%s", why)

    def _read(self, receiving: zmq.Socket, frames: list[bytes]) -> Iterator[Message]:
        if receiving.type == zmq.ROUTER:
            yield self._asking.ready(frames[-1])
        else:
            yield from self._asking.messages(frames)
