"""The owners of the KV cache's blocks: a free list of block numbers, as in vLLM's block_pool.py.

The memory of the blocks is in attention.py, so that the scheduler can be read, and tested, without torch.
"""


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each, numbered from 0. Every block is free or has one owner."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        # Last in, first out: used blocks are reused first, so that no more memory is touched than needed.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._owned = bytearray(num_blocks)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """`count` free blocks, now owned by the caller, which has checked `num_free` first."""
        assert count <= len(self._free), f"asked for {count} blocks with {len(self._free)} free"
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._owned[block] = 1
        return blocks

    def free(self, blocks: list[int]) -> None:
        """Give blocks back. Freeing one twice is refused, because it would be given to two sequences later."""
        for block in blocks:
            assert self._owned[block], f"block {block} is free already"
            self._owned[block] = 0
        self._free.extend(reversed(blocks))
