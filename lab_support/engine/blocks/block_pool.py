"""The users of the KV cache's blocks, and which blocks are free or cached, as in vLLM's v1/core/block_pool.py."""

from collections.abc import Iterable, Sequence

from lab_support.engine.blocks.cached_blocks import CachedBlocks


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each, numbered from 0. Every block is free or has one user or more.

    A free block may still be cached: it is found by its key until it is needed for other tokens. Blocks that were never
    cached are taken first.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        # Last in, first out: used blocks are reused first, so that no more memory is touched than needed.
        self._empty = list(range(num_blocks - 1, -1, -1))
        self._cached = CachedBlocks()
        self._users = [0] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._empty) + self._cached.num_unused

    @property
    def users(self) -> Sequence[int]:
        """The number of users of each block, as it is now and later."""
        return self._users

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """`count` free blocks, now used by the caller alone, which has checked `num_free` first."""
        assert count <= self.num_free, f"asked for {count} blocks with {self.num_free} free"
        blocks = [self._empty.pop() if self._empty else self._cached.evict() for _ in range(count)]
        for block in blocks:
            self._users[block] = 1
        return blocks

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The cached blocks with these keys, up to the first key that no block has; `share` them before `allocate`."""
        return self._cached.find(keys)

    def share(self, blocks: list[int]) -> None:
        """One more user of each of these cached blocks."""
        for block in blocks:
            if not self._users[block]:
                self._cached.use(block)
            self._users[block] += 1

    def cache(self, blocks: list[int], keys: list[bytes]) -> None:
        """Let used blocks, full when this step ends, be found by their keys from now on."""
        for block, key in zip(blocks, keys, strict=True):
            self._cached.add(block, key)

    def free(self, blocks: list[int]) -> None:
        """Give blocks back. One that has no user is refused, because it would be given to two sequences later.

        A sequence's last block is evicted first, because the others can be found without it.
        """
        for block in reversed(blocks):
            assert self._users[block], f"block {block} is free already"
            self._users[block] -= 1
            if not self._users[block]:
                self._let_go(block)

    def _let_go(self, block: int) -> None:
        if block in self._cached:
            self._cached.leave(block)
        else:
            self._empty.append(block)
