"""Who owns which block of the KV cache: a free list, as in vLLM's block_pool.py. Numbers only.

The memory behind the numbers is in attention.py, so that the scheduler can be read, and tested, without torch.
"""


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each, numbered from 0; every block is free or owned once."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        # Last in, first out: blocks that were used before are used again first, so memory is touched only as needed.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._owned = bytearray(num_blocks)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """`count` blocks that nobody else owns. The caller has looked at `num_free` first."""
        assert count <= len(self._free), f"asked for {count} blocks with {len(self._free)} free"
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._owned[block] = 1
        return blocks

    def free(self, blocks: list[int]) -> None:
        """Give blocks back. Freeing one twice would hand it to two sequences later, so it is refused here."""
        for block in blocks:
            assert self._owned[block], f"block {block} is free already"
            self._owned[block] = 0
        self._free.extend(reversed(blocks))
