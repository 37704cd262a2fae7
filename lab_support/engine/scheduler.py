"""Which sequences compute how many tokens in the next step: continuous batching over a block KV cache.

First come, first served. Running sequences are kept in order of arrival; when blocks run out, the newest gives
its blocks back and is computed again later (preemption by recompute, as in vLLM's v1/core/sched/scheduler.py), so
the oldest always gets on and nobody starves. Runs in engine cores; knows neither tensors nor sockets.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lab_support.engine.kv_cache import BlockPool
from lab_support.engine.request import Request, Sequence
from lab_support.engine.step import Chunk, Logprobs, Sampled, Step
from lab_support.generation import FinishReason


class Output(NamedTuple):
    """What one step made of one request. An end token or stop token that ended it is the last of `token_ids`."""

    request_id: Hashable
    token_ids: list[int]
    finish_reason: FinishReason | None
    logprobs: list[Logprobs] | None


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Gauges now, and totals since the start. A prompt counts once, with its first generated token."""

    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    steps: int
    prompt_tokens: int
    generation_tokens: int
    preemptions: int
    aborts: int


class Scheduler:
    """Owns every live sequence and every block. `schedule` and `update` alternate; `add` and `abort` fit anywhere.

    max_model_len: longest prompt plus output, in tokens; at most what the whole KV cache can hold.
    """

    def __init__(
        self,
        *,
        block_size: int,
        num_blocks: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_model_len: int,
        end_token_ids: Iterable[int],
    ) -> None:
        self._pool = BlockPool(num_blocks, block_size)
        self._max_num_seqs = min(max_num_seqs, max_num_batched_tokens)
        self._max_num_batched_tokens = max_num_batched_tokens
        # A sequence that fits the whole cache can always be finished by preempting all others.
        self._max_len = min(max_model_len, num_blocks * block_size)
        self._end_token_ids = frozenset(end_token_ids)
        self._live: dict[Hashable, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._refused: list[Output] = []
        self._freed_after_step: list[Sequence] = []
        self._step: Step | None = None
        self._steps = self._prompt_tokens = self._generation_tokens = self._preemptions = self._aborts = 0

    # ---- requests in and out ----------------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Queue a request. One that could never fit ends with ABORT and no token in the next `update`."""
        assert request.request_id not in self._live, f"request {request.request_id!r} is here already"
        if not 0 < len(request.prompt_token_ids) < self._max_len:
            self._refused.append(Output(request.request_id, [], FinishReason.ABORT, None))
            return
        sequence = Sequence(request)
        self._live[request.request_id] = sequence
        self._waiting.append(sequence)

    def abort(self, request_ids: Iterable[Hashable]) -> int:
        """Forget these requests, without an Output; how many there were (unknown ids may have just ended).

        Their blocks are free when this returns, but while a step that writes into them is in flight: then when
        its `update` returns.
        """
        known = [self._live.pop(request_id) for request_id in request_ids if request_id in self._live]
        for sequence in known:
            sequence.ended = True
            if sequence in self._running:
                self._running.remove(sequence)
                self._release(sequence)
            else:
                self._waiting.remove(sequence)
        self._aborts += len(known)
        return len(known)

    @property
    def request_ids(self) -> list[Hashable]:
        """Of all requests that are here."""
        return list(self._live)

    def has_work(self) -> bool:
        return bool(self._running or self._waiting or self._refused)

    @property
    def stats(self) -> SchedulerStats:
        return SchedulerStats(
            running=len(self._running),
            waiting=len(self._waiting),
            free_blocks=self._pool.num_free,
            total_blocks=self._pool.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            preemptions=self._preemptions,
            aborts=self._aborts,
        )

    # ---- before the step --------------------------------------------------------------------------------------------

    def schedule(self) -> Step:
        """The next step: every decoding sequence, then pieces of prompts while the token budget lasts.

        Decodes go first, so that a long prompt never stalls a running stream.
        """
        assert self._step is None, "schedule() before the update() of the last step"
        self._give_blocks_to_decodes()
        decodes = [sequence for sequence in self._running if sequence.num_uncomputed == 1]
        decodes.sort(key=_length)
        budget = self._max_num_batched_tokens - len(decodes)
        prefilling = [sequence for sequence in self._running if sequence.num_uncomputed > 1]
        chunks = self._chunks(prefilling, budget)
        chunks += self._admit(budget - sum(chunk.num_tokens for chunk in chunks))
        self._step = Step(decodes, chunks)
        self._steps += 1
        return self._step

    def _give_blocks_to_decodes(self) -> None:
        """A block for each running sequence whose last one is full, oldest first.

        Where none is free the newest sequence is preempted. It can't come back in this step: fewer blocks are free
        then than it had.
        """
        block_size = self._pool.block_size
        for sequence in list(self._running):
            if sequence.block_table and len(sequence.token_ids) > len(sequence.block_table) * block_size:
                while not self._pool.num_free and sequence.block_table:
                    self._preempt(self._running[-1])
                if sequence.block_table:
                    sequence.block_table += self._pool.allocate(1)

    def _preempt(self, sequence: Sequence) -> None:
        """Take the newest sequence's blocks; it waits in front of all others, so the order of arrival is kept."""
        assert sequence is self._running[-1]
        self._running.pop()
        self._pool.free(sequence.block_table)
        sequence.block_table = []
        sequence.num_computed = 0
        self._waiting.appendleft(sequence)
        self._preemptions += 1

    def _chunks(self, prefilling: list[Sequence], budget: int) -> list[Chunk]:
        chunks = []
        for sequence in prefilling:
            if budget <= 0:
                break
            chunk = Chunk(sequence, min(budget, sequence.num_uncomputed))
            chunks.append(chunk)
            budget -= chunk.num_tokens
        return chunks

    def _admit(self, budget: int) -> list[Chunk]:
        """Start waiting sequences, each with blocks for all it has to compute, while everything lasts.

        One block for each running sequence is left free: without it a newcomer would be preempted in the next
        step by the very sequences that it joined, and its prefill lost.
        """
        chunks: list[Chunk] = []
        while self._waiting and budget > 0 and len(self._running) < self._max_num_seqs:
            sequence = self._waiting[0]
            needed = self._pool.blocks_for(len(sequence.token_ids))
            if needed + len(self._running) > self._pool.num_free:
                break
            self._running.append(self._waiting.popleft())
            sequence.block_table = self._pool.allocate(needed)
            chunks += self._chunks([sequence], budget)
            budget -= chunks[-1].num_tokens
        return chunks

    # ---- after the step ---------------------------------------------------------------------------------------------

    def update(self, step: Step, sampled: Sampled) -> list[Output]:
        """Take the step's tokens in; one Output for each sequence that got one, and for each request refused."""
        assert step is self._step, "update() with a step that was not the last one scheduled"
        self._step = None
        outputs, self._refused = self._refused, []
        sampling = step.sampling
        for sequence in step.decodes:
            sequence.num_computed += 1
        for chunk in step.chunks:
            chunk.sequence.num_computed += chunk.num_tokens
        for index, sequence in enumerate(sampling):
            if not sequence.ended:
                logprobs = sampled.logprobs[index] if sampled.logprobs else None
                outputs.append(self._take(sequence, sampled.token_ids[index], logprobs))
        for sequence in self._freed_after_step:
            self._release(sequence)
        self._freed_after_step = []
        return outputs

    def _take(self, sequence: Sequence, token: int, logprobs: Logprobs | None) -> Output:
        sequence.token_ids.append(token)
        self._generation_tokens += 1
        if sequence.num_generated == 1:
            self._prompt_tokens += sequence.num_prompt
        reason = self._finish_reason(sequence, token)
        if reason is not None:
            sequence.ended = True
            del self._live[sequence.request_id]
            self._running.remove(sequence)
            self._release(sequence)
        return Output(sequence.request_id, [token], reason, None if logprobs is None else [logprobs])

    def _finish_reason(self, sequence: Sequence, token: int) -> FinishReason | None:
        sampling = sequence.sampling
        # Under min_tokens the sampler forbids these tokens, so there is nothing to ask about it here.
        if (token in self._end_token_ids and not sampling.ignore_eos) or token in sampling.stop_token_ids:
            return FinishReason.STOP
        if sequence.num_generated >= sampling.max_tokens or len(sequence.token_ids) >= self._max_len:
            return FinishReason.LENGTH
        return None

    def _release(self, sequence: Sequence) -> None:
        if self._step is not None:
            self._freed_after_step.append(sequence)
            return
        self._pool.free(sequence.block_table)
        sequence.block_table = []


def _length(sequence: Sequence) -> int:
    return len(sequence.token_ids)
