"""A request as it arrives, the sequence that it becomes inside an engine core, and the client's request behind it.

No torch, no text, no sockets.
"""

import heapq
import random
from collections.abc import Hashable
from dataclasses import dataclass

from lab_support.generation import SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one sequence after `prompt_token_ids` (at least one). `request_id` names it in this engine.

    parent: names the client's request that it came with, perhaps together with others; None if it came alone.
    cache_salt: only sequences with the same one share cached blocks.
    """

    request_id: Hashable
    prompt_token_ids: list[int]
    sampling: SamplingParams
    parent: Hashable = None
    cache_salt: bytes = b""


class Sequence:
    """A request in progress: the scheduler changes it, the runner reads it.

    token_ids: prompt and generated tokens, growing by one a step.
    num_computed: the number of them whose keys and values are in the KV cache.
    num_scored: the number of the prompt's positions whose next token's log-probability has been reported.
    num_cached: the number of its tokens that were in the prefix cache when it first started; None before that.
    block_table: the blocks of the KV cache; position p lies in `block_table[p // block_size]`.
    block_keys: the root and the keys of its first blocks, as many as were needed (blocks/block_keys.py).
    arrival, parent: its place in the order of arrival, and the client's request that it belongs to (turns.py).
    given_way_at: its length when it last gave way to another client's request; 0 if it never did.
    """

    __slots__ = (
        "arrival",
        "block_keys",
        "block_table",
        "cache_salt",
        "ended",
        "given_way_at",
        "greedy_only",
        "num_cached",
        "num_computed",
        "num_prompt",
        "num_scored",
        "parent",
        "random",
        "request_id",
        "sampling",
        "token_ids",
    )

    arrival: int
    parent: "Parent"

    def __init__(self, request: Request) -> None:
        sampling = request.sampling
        self.request_id = request.request_id
        self.sampling = sampling
        self.token_ids = list(request.prompt_token_ids)
        self.num_prompt = len(self.token_ids)
        self.num_computed = self.num_scored = 0
        self.num_cached: int | None = None
        self.cache_salt = request.cache_salt
        self.block_table: list[int] = []
        self.block_keys: list[bytes] = []
        self.ended = False
        self.given_way_at = 0
        self.greedy_only = sampling.greedy and not _changes_logits(sampling) and sampling.logprobs is None
        # One generator per sequence, so that a seed gives the same tokens whatever else is in the batch. Without a
        # seed the kernel seeds it, so it differs between requests and between (even forked) processes.
        self.random = None if sampling.greedy else random.Random(sampling.seed)

    @property
    def num_generated(self) -> int:
        return len(self.token_ids) - self.num_prompt

    @property
    def num_uncomputed(self) -> int:
        """1 while decoding; more while its prompt, or after a preemption all of it, is not computed yet."""
        return len(self.token_ids) - self.num_computed


class Parent:
    """A client's request while any of its sequences is live. arrival: its place in the order of arrival."""

    __slots__ = ("arrival", "key", "live", "running", "waiting")

    def __init__(self, key: Hashable, arrival: int) -> None:
        self.key = key
        self.arrival = arrival
        self.live = 0
        self.running = 0
        self.waiting: list[tuple[int, Sequence]] = []  # a heap, by arrival; `first` removes aborted ones

    def first(self) -> Sequence | None:
        """The oldest of its waiting sequences."""
        while self.waiting and self.waiting[0][1].ended:
            heapq.heappop(self.waiting)
        return self.waiting[0][1] if self.waiting else None


def _changes_logits(sampling: SamplingParams) -> bool:
    penalties = (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty - 1.0)
    return any(penalties) or sampling.min_tokens > 0
