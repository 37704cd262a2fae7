"""Decides how many tokens each sequence computes in the next step: continuous batching over a block KV cache.

Requests for one sequence are served first come, first served. A client's request may be for many, and then it has to
share: the next sequence to start belongs to the request with the fewest running (turns.py), and the sequences of the
request with the most give way first (preemption.py). A preempted sequence is computed again, as in vLLM's
v1/core/sched/scheduler.py, except for blocks that are still cached (kv_cache.py).

vLLM takes sequences only in the order of arrival (or by a priority that clients name), whichever request they are of:
there a request for a thousand sequences is served whole before the one behind it. Runs in engine cores; knows neither
tensors nor sockets.
"""

from bisect import insort
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lab_support.engine.blocks.block_keys import BlockKeys
from lab_support.engine.kv_cache import KVCache
from lab_support.engine.preemption import Room, giving_way, newest_of_largest
from lab_support.engine.request import Request, Sequence
from lab_support.engine.step import Chunk, Sampled, Step
from lab_support.engine.turns import Turns
from lab_support.generation import FinishReason, TokenLogprobs

MOST_TOLD = 1024
"""The most log-probabilities of prompts in one step, about as many as 64 sequences report with 16 per token: an API
server turns all of them into text before it does anything else, and other sequences' tokens wait for the step."""


class Output(NamedTuple):
    """One request's result of one step. An end token or stop token that ended it is the last of `token_ids`.

    prompt_logprobs: those of the next part of its prompt. An Output that has them has nothing else.
    cached_tokens: in its first Output, how many of its prompt's tokens were in the prefix cache when it started.
    """

    request_id: Hashable
    token_ids: list[int]
    finish_reason: FinishReason | None
    logprobs: list[TokenLogprobs] | None
    prompt_logprobs: list[TokenLogprobs] | None = None
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Current gauges, and totals since the start. A prompt counts once, with its first generated token.

    prefix_cache_queries, prefix_cache_hits: tokens looked up in the prefix cache, and found there (kv_cache.py).
    """

    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    steps: int
    prompt_tokens: int
    generation_tokens: int
    preemptions: int
    aborts: int
    prefix_cache_queries: int
    prefix_cache_hits: int


class Scheduler:
    """Owns every live sequence and every block. `schedule` and `update` alternate; `add` and `abort` may be called at
    any time, even between the two.

    max_model_len: longest prompt plus output, in tokens; at most what the whole KV cache can hold.
    block_keys: makes the keys by which cached blocks are found; None switches prefix caching off.
    static: sequences join together, once the last batch has ended (--batching static).
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
        block_keys: BlockKeys | None = None,
        static: bool = False,
    ) -> None:
        self._cache = KVCache(num_blocks, block_size, block_keys)
        self._max_num_seqs = min(max_num_seqs, max_num_batched_tokens)
        self._max_num_batched_tokens = max_num_batched_tokens
        # A sequence that fits the whole cache can always finish, if all others are preempted.
        self._max_len = min(max_model_len, num_blocks * block_size)
        self._end_token_ids = frozenset(end_token_ids)
        self._live: dict[Hashable, Sequence] = {}
        self._turns = Turns()
        self._running: list[Sequence] = []  # by arrival
        self._refused: list[Output] = []
        self._freed_after_step: list[Sequence] = []
        self._step: Step | None = None
        self._static, self._joining = static, True
        self._told = 0  # log-probabilities of prompts in this step
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
        alone = ("alone", request.request_id)
        self._turns.join(sequence, alone if request.parent is None else request.parent)

    def abort(self, request_ids: Iterable[Hashable]) -> int:
        """Forget these requests, without an Output. Returns their number; unknown ids may have just ended.

        Their blocks are free when this returns, unless a step in flight still writes to them; then when its `update`
        returns.
        """
        known = [self._live.pop(request_id) for request_id in request_ids if request_id in self._live]
        for sequence in known:
            ran = sequence in self._running
            if ran:
                self._running.remove(sequence)
                self._release(sequence)
            self._leave(sequence, ran)
        self._aborts += len(known)
        return len(known)

    @property
    def request_ids(self) -> list[Hashable]:
        """The ids of all live requests."""
        return list(self._live)

    def has_work(self) -> bool:
        return bool(self._running or self._turns or self._refused)

    @property
    def stats(self) -> SchedulerStats:
        return SchedulerStats(
            running=len(self._running),
            waiting=len(self._turns),
            free_blocks=self._cache.num_free,
            total_blocks=self._cache.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            preemptions=self._preemptions,
            aborts=self._aborts,
            prefix_cache_queries=self._cache.queries,
            prefix_cache_hits=self._cache.hits,
        )

    # ---- before the step --------------------------------------------------------------------------------------------

    def schedule(self) -> Step:
        """The next step: every decoding sequence, then pieces of prompts while the token budget lasts.

        Decodes go first, so that a long prompt never stalls a running stream.
        """
        assert self._step is None, "schedule() before the update() of the last step"
        self._told = 0
        self._give_blocks_to_decodes()
        if not self._static:
            self._make_room_for_unserved()
        decodes = [sequence for sequence in self._running if sequence.num_uncomputed == 1]
        decodes.sort(key=_length)
        budget = self._max_num_batched_tokens - len(decodes)
        prefilling = [sequence for sequence in self._running if sequence.num_uncomputed > 1]
        chunks = self._chunks(prefilling, budget)
        chunks += self._join(budget - sum(chunk.num_tokens for chunk in chunks))
        self._step = Step(decodes, chunks)
        self._steps += 1
        return self._step

    def _give_blocks_to_decodes(self) -> None:
        """Give a block to each running sequence whose last one is full, oldest first.

        If none is free, a sequence is preempted, perhaps the same one.
        """
        block_size = self._cache.block_size
        for sequence in list(self._running):
            if sequence.block_table and len(sequence.token_ids) > len(sequence.block_table) * block_size:
                while not self._cache.num_free and sequence.block_table:
                    self._preempt(max(self._running, key=newest_of_largest))
                if sequence.block_table:
                    self._cache.grow(sequence)

    def _make_room_for_unserved(self) -> None:
        """Preempt for waiting requests that have nothing running, as many as this step has tokens for."""
        room = Room(self._max_num_seqs - len(self._running), self._cache.num_free - len(self._running) + 1)
        trial = self._cache.trial()
        tokens = 0
        for sequence in self._turns.unserved() if any(each.parent.running > 1 for each in self._running) else ():
            if tokens >= self._max_num_batched_tokens:
                return
            tokens += self._cache.num_to_compute(sequence)
            found = giving_way(self._running, room.less(self._cache.needs(sequence, trial)), trial)
            if found is None:
                return
            room = found.room
            for victim in found.victims:
                victim.given_way_at = len(victim.token_ids)
                self._preempt(victim)

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's blocks. It goes back to its old place in the queue, so the order of arrival is kept."""
        self._running.remove(sequence)
        self._cache.release(sequence)
        sequence.num_computed = 0
        self._turns.put_back(sequence)
        self._preemptions += 1

    def _chunks(self, prefilling: list[Sequence], budget: int) -> list[Chunk]:
        chunks = []
        for sequence in prefilling:
            if budget <= 0:
                break
            chunk = Chunk(sequence, min(budget, sequence.num_uncomputed, self._may_tell(sequence)))
            chunks.append(chunk)
            self._cache.fill(sequence, chunk.num_tokens)
            budget -= chunk.num_tokens
            self._told += chunk.num_tokens * _told_at_a_position(sequence)
        return chunks

    def _may_tell(self, sequence: Sequence) -> int:
        """The most tokens of its prompt that it may compute in this step, at least one."""
        each = _told_at_a_position(sequence)
        return max(1, (MOST_TOLD - self._told) // each) if each else self._max_num_batched_tokens

    def _join(self, budget: int) -> list[Chunk]:
        """Admit sequences; in static batching only until a step had tokens left for more of them.

        A batch whose prompts are more than one step's budget joins in several steps.
        """
        if not self._static:
            return self._admit(budget)
        self._joining = self._joining or not self._running
        chunks = self._admit(budget) if self._joining else []
        self._joining = self._joining and sum(chunk.num_tokens for chunk in chunks) >= budget
        return chunks

    def _admit(self, budget: int) -> list[Chunk]:
        """Start waiting sequences, each with blocks for all its tokens, while places, blocks and the budget last.

        One block for each running sequence is left free. Otherwise the sequences already running could preempt a
        newcomer in the next step, and its prefill would be lost.
        """
        chunks: list[Chunk] = []
        while budget > 0 and len(self._running) < self._max_num_seqs and (sequence := self._turns.peek()):
            if self._cache.needs(sequence, self._cache.trial()) + len(self._running) > self._cache.num_free:
                break
            self._turns.start(sequence)
            insort(self._running, sequence, key=_arrival)
            self._cache.start(sequence)
            chunks += self._chunks([sequence], budget)
            budget -= chunks[-1].num_tokens
        return chunks

    # ---- after the step ---------------------------------------------------------------------------------------------

    def update(self, step: Step, sampled: Sampled) -> list[Output]:
        """Record the step's tokens. Returns one Output for each sequence that got one, and for each refused request.

        Prompts' log-probabilities come before tokens, so that they never follow a sequence's first token.
        """
        assert step is self._step, "update() with a step that was not the last one scheduled"
        self._step = None
        outputs, self._refused = self._refused, []
        sampling = step.sampling
        block_size = self._cache.block_size
        for sequence in step.decodes:
            if sequence.num_computed % block_size == block_size - 1:
                self._cache.fill(sequence, 1)
            sequence.num_computed += 1
        for chunk in step.chunks:
            chunk.sequence.num_computed += chunk.num_tokens
        outputs += [self._tell(*scored) for scored in sampled.prompts if not scored.sequence.ended]
        for index, sequence in enumerate(sampling):
            if not sequence.ended:
                logprobs = sampled.logprobs[index] if sampled.logprobs else None
                outputs.append(self._take(sequence, sampled.token_ids[index], logprobs))
        for sequence in self._freed_after_step:
            self._release(sequence)
        self._freed_after_step = []
        return outputs

    @staticmethod
    def _tell(sequence: Sequence, logprobs: list[TokenLogprobs]) -> Output:
        sequence.num_scored += len(logprobs)
        return Output(sequence.request_id, [], None, None, logprobs)

    def _take(self, sequence: Sequence, token: int, logprobs: TokenLogprobs | None) -> Output:
        if not sequence.sampling.max_tokens:
            self._prompt_tokens += sequence.num_prompt
            self._end(sequence)
            return Output(sequence.request_id, [], FinishReason.LENGTH, None, None, sequence.num_cached or 0)
        sequence.token_ids.append(token)
        self._generation_tokens += 1
        cached = 0
        if sequence.num_generated == 1:
            self._prompt_tokens += sequence.num_prompt
            cached = sequence.num_cached or 0
        reason = self._finish_reason(sequence, token)
        if reason is not None:
            self._end(sequence)
        return Output(sequence.request_id, [token], reason, None if logprobs is None else [logprobs], None, cached)

    def _finish_reason(self, sequence: Sequence, token: int) -> FinishReason | None:
        sampling = sequence.sampling
        # Below min_tokens the sampler forbids these tokens, so there is nothing to check here.
        if (token in self._end_token_ids and not sampling.ignore_eos) or token in sampling.stop_token_ids:
            return FinishReason.STOP
        if sequence.num_generated >= sampling.max_tokens or len(sequence.token_ids) >= self._max_len:
            return FinishReason.LENGTH
        return None

    def _end(self, sequence: Sequence) -> None:
        del self._live[sequence.request_id]
        self._running.remove(sequence)
        self._leave(sequence, ran=True)
        self._release(sequence)

    def _leave(self, sequence: Sequence, ran: bool) -> None:
        sequence.ended = True
        self._turns.leave(sequence, ran)

    def _release(self, sequence: Sequence) -> None:
        if self._step is not None:
            self._freed_after_step.append(sequence)
            return
        self._cache.release(sequence)


def _told_at_a_position(sequence: Sequence) -> int:
    """The number of log-probabilities reported for each position of its prompt."""
    asked = sequence.sampling.prompt_logprobs
    return 0 if asked is None else 1 + asked


def _length(sequence: Sequence) -> int:
    return len(sequence.token_ids)


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival
