"""Keys of full blocks: two blocks with one key hold the same keys and values.

A block's key is the sha256 of its parent's key and its own tokens, so it stands for all tokens up to its end (vLLM
0.33: v1/core/kv_cache_utils.py). The first block's parent is a root: a random seed and the request's `cache_salt`.
"""

import os
from array import array
from hashlib import sha256

SEED_BYTES = 32


class BlockKeys:
    """Makes keys for one engine core. The seed is random, so that nobody can compute a key, and differs between
    processes, because each object draws its own.

    own_context: under dynamic RoPE the model's own context, in tokens. A longer prompt is rotated by its length, so its
    blocks differ from those of any other length (rope.py). None under every other kind of RoPE.
    """

    def __init__(self, block_size: int, own_context: int | None = None) -> None:
        self._block_size = block_size
        self._own_context = own_context
        self._seed = os.urandom(SEED_BYTES)

    def root(self, cache_salt: bytes, num_prompt: int) -> bytes:
        """The parent of the first block of a sequence with a prompt of `num_prompt` tokens."""
        stretched = self._own_context is not None and num_prompt > self._own_context
        length = num_prompt if stretched else 0
        return sha256(self._seed + length.to_bytes(8, "little") + cache_salt).digest()

    def extend(self, keys: list[bytes], token_ids: list[int], count: int) -> None:
        """Append keys until `keys`, which begins with the root, has those of the first `count` blocks of `token_ids`.

        1 µs a block of 16 tokens.
        """
        size = self._block_size
        for start in range((len(keys) - 1) * size, count * size, size):
            keys.append(sha256(keys[-1] + array("i", token_ids[start : start + size]).tobytes()).digest())
