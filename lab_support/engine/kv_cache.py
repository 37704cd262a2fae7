"""Gives sequences their blocks of the KV cache, and finds cached ones for them: automatic prefix caching.

A sequence starts with the cached blocks of its first tokens. Its last token is always computed, because its logits are
needed, and with it all of its block: the rules are those of vLLM 0.33 (v1/core/kv_cache_manager.py).

A block can be found from the moment when the step that fills it is scheduled: in every layer a step writes all its keys
and values before it reads any (model.py), so that sequences that start together share, too.

The memory of the blocks is in attention.py, so that the scheduler can be read, and tested, without torch.
"""

from lab_support.engine.blocks.block_keys import BlockKeys
from lab_support.engine.blocks.block_pool import BlockPool
from lab_support.engine.blocks.trial import Trial
from lab_support.engine.request import Sequence


class KVCache:
    """The blocks of all sequences. keys: makes the keys of full blocks; None switches prefix caching off.

    queries, hits: tokens of started sequences that were looked up in the cache, and found there. A preempted sequence
    is not counted again when it comes back, as in vLLM.
    """

    def __init__(self, num_blocks: int, block_size: int, keys: BlockKeys | None) -> None:
        self._pool = BlockPool(num_blocks, block_size)
        self._keys = keys
        self.num_blocks, self.block_size = num_blocks, block_size
        self.queries = self.hits = 0

    @property
    def num_free(self) -> int:
        """The number of blocks without a user, cached ones included."""
        return self._pool.num_free

    def trial(self) -> Trial:
        """A trial that begins with the present users of all blocks."""
        return Trial(self._pool.users)

    def needs(self, sequence: Sequence, trial: Trial) -> int:
        """The number of free blocks that a waiting sequence takes to start. It has started in `trial` afterwards."""
        cached = self._cached(sequence)
        return self._pool.blocks_for(len(sequence.token_ids)) - len(cached) + trial.take(cached)

    def num_to_compute(self, sequence: Sequence) -> int:
        """The number of a waiting sequence's tokens that are not cached."""
        return len(sequence.token_ids) - len(self._cached(sequence)) * self.block_size

    def start(self, sequence: Sequence) -> None:
        """Give a sequence blocks for all its tokens, cached ones first. There are as many as it `needs`."""
        cached = self._cached(sequence)
        self._pool.share(cached)
        sequence.block_table = cached + self._pool.allocate(
            self._pool.blocks_for(len(sequence.token_ids)) - len(cached)
        )
        sequence.num_computed = len(cached) * self.block_size
        self._count(sequence)

    def grow(self, sequence: Sequence) -> None:
        """Give a sequence one more block. There is a free one."""
        sequence.block_table += self._pool.allocate(1)

    def fill(self, sequence: Sequence, num_tokens: int) -> None:
        """Cache the blocks that become full when a sequence's next `num_tokens` tokens are computed."""
        first, end = sequence.num_computed // self.block_size, (sequence.num_computed + num_tokens) // self.block_size
        if self._keys is not None and first < end:
            self._pool.cache(sequence.block_table[first:end], self._keys_of(sequence, self._keys, first, end))

    def release(self, sequence: Sequence) -> None:
        """Take a sequence's blocks. Cached ones can be found until they are needed for other tokens."""
        self._pool.free(sequence.block_table)
        sequence.block_table = []

    def _cached(self, sequence: Sequence) -> list[int]:
        keys = self._keys_to_read(sequence)
        if keys is None:
            return []
        most = (len(sequence.token_ids) - 1) // self.block_size
        return self._pool.find(self._keys_of(sequence, keys, 0, most))

    def _keys_to_read(self, sequence: Sequence) -> BlockKeys | None:
        """None if all tokens have to be computed: log-probabilities of a prompt come from computing it."""
        return self._keys if sequence.sampling.prompt_logprobs is None else None

    @staticmethod
    def _keys_of(sequence: Sequence, keys: BlockKeys, first: int, end: int) -> list[bytes]:
        """The keys of these blocks of a sequence, all of them full."""
        known = sequence.block_keys
        if not known:
            known.append(keys.root(sequence.cache_salt, sequence.num_prompt))
        keys.extend(known, sequence.token_ids, end)
        return known[1 + first : 1 + end]

    def _count(self, sequence: Sequence) -> None:
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
            self.queries += len(sequence.token_ids) if self._keys_to_read(sequence) else 0
            self.hits += sequence.num_computed
