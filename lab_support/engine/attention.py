"""The KV cache's memory, and attention over the blocks in it.

For a span of rows (batch.py) the blocks are gathered into one tensor; attention is then two batched matrix products
with a softmax between them.
"""

import math
import mmap

import torch
import torch.nn.functional as F

from lab_support.engine.batch import Span
from lab_support.model_folder import ModelShape

# Two batched products beat PyTorch's fused kernel on a CPU (69 against 78 µs for 16 sequences of 128 tokens), until
# the scores no longer fit its caches (28.9 against 13.5 ms for 512 rows that look at 2,048 tokens).
FEW_SCORES = 256 * 512


class BlockMemory:
    """Keys and values of every block and layer, plus one scratch block, into which padding rows write.

    One tensor [layers, 2 × kv heads, blocks + 1, block size × head dim], keys before values, so that gathering blocks
    is one copy of long runs, in the layout that the batched product needs.
    """

    def __init__(
        self, shape: ModelShape, num_blocks: int, block_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.scratch_block, self.block_size = num_blocks, block_size
        self._kv_heads, self._group, self._head_dim = (
            shape.num_kv_heads,
            shape.num_heads // shape.num_kv_heads,
            shape.head_dim,
        )
        self._scale = shape.head_dim**-0.5
        size = (shape.num_layers, 2 * shape.num_kv_heads, num_blocks + 1, block_size * shape.head_dim)
        memory = _zeros(size, device, dtype)
        self._blocks = memory.unbind(0)
        self._slots = memory.view(*size[:2], -1, shape.head_dim).unbind(0)
        self._by_products = device.type == "cpu" and dtype == torch.float32

    def layer(self, index: int) -> torch.Tensor:
        """One layer, [2 × kv heads, blocks + 1, block size × head dim], for kernels that find the blocks themselves."""
        return self._blocks[index]

    def write(self, layer: int, key_values: torch.Tensor, slots: torch.Tensor) -> None:
        """Store key_values [rows, 2 × kv heads, head dim] at slots [rows] (block · block size + offset)."""
        self._slots[layer].index_copy_(1, slots, key_values.transpose(0, 1))

    def attend(self, layer: int, queries: torch.Tensor, span: Span) -> torch.Tensor:
        """queries [span's rows, heads, head dim] → [span's rows, heads × head dim]."""
        kv, group, head_dim, count = self._kv_heads, self._group, self._head_dim, span.num_sequences
        rows = span.rows_each
        q = queries.view(count, rows, kv, group, head_dim).permute(2, 0, 3, 1, 4)
        q = q.reshape(kv * count, group * rows, head_dim)
        keys, values = self._blocks[layer].index_select(1, span.blocks).view(2, kv * count, -1, head_dim).unbind(0)
        attended = self._product(q, keys, values, span.bias)
        attended = attended.view(kv, count, group, rows, head_dim).permute(1, 3, 0, 2, 4)
        return attended.reshape(count * rows, kv * group * head_dim)

    def _product(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        if self._by_products and queries.shape[1] * keys.shape[1] <= FEW_SCORES:
            scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=self._scale)
            return torch.bmm(torch.softmax(scores, -1), values)
        bias = bias.expand(queries.shape[0], queries.shape[1], -1).unsqueeze(1)
        queries, keys, values = queries.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=self._scale).squeeze(1)


def _zeros(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Zeros, not uninitialised memory, because unwritten slots are gathered as padding, and 0 · NaN would be NaN.

    On a CPU the memory comes straight from the kernel, which provides a zeroed page at its first write; torch.zeros
    writes all of them at once, 67 MB for the included model. Private, because reading an untouched shared page
    allocates it.
    """
    if device.type != "cpu":
        return torch.zeros(size, device=device, dtype=dtype)
    pages = mmap.mmap(-1, math.prod(size) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(size)
