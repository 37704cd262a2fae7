"""The KV cache's memory, and attention over the blocks in it.

For a span of rows the blocks are gathered into one tensor; attention is then two batched matrix products with a softmax
between them. Where many sequences decode, only the keys are gathered: the values are summed up where they lie.
"""

import math
import mmap
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lab_support.model_folder import ModelShape

# In float32, two batched products beat PyTorch's fused kernel on a CPU (69 against 78 µs for 16 sequences of 128
# tokens), until the scores no longer fit its caches (28.9 against 13.5 ms for 512 rows that look at 2,048 tokens). In
# bfloat16 they would round the scores: the distance from float32's probabilities doubled (KL, 1.9e-4 and 3.6e-4).
FEW_SCORES = 256 * 512
# From so many blocks on, summing up values where they lie is faster than gathering and multiplying them: 95 against
# 183 µs for 16 sequences of 128 tokens, 282 against 746 for 64.
MANY_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Bags:
    """The values that many decoding sequences sum up, as an embedding bag sums up rows of its table: one bag for each
    sequence and query head.

    tokens: int64 [bags × tokens each], rows of a layer [2 × kv heads × blocks × block size, head dim].
    starts: int64 [bags], the place of each bag's first token in `tokens`.
    """

    tokens: torch.Tensor
    starts: torch.Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """Rows that attend together, in sequences with the same number of blocks. It is the same for all layers.

    runs: int64, rows of a layer [2 × kv heads × blocks, block size × head dim]: the keys, [num_sequences × kv heads ×
        blocks each], and then the values alike, unless there are bags.
    gathered: memory for these rows.
    bias: [1 or num_sequences × kv heads, 1 or query heads per kv head × rows_each, tokens]: 0 where a row may look,
        minus infinity where it may not (its future, and the padding).
    """

    num_sequences: int
    rows_each: int
    runs: torch.Tensor
    gathered: torch.Tensor
    bags: Bags | None
    bias: torch.Tensor


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
        self._runs = memory.view(size[0], -1, size[3]).unbind(0)
        self._tokens = memory.view(size[0], -1, shape.head_dim).unbind(0)
        self._widest = _widest(shape.head_dim, dtype)
        self._slots = memory.view(*size[:2], -1, shape.head_dim).view(self._widest).unbind(0)
        self._gathered = memory.new_empty(0, size[3])
        self._by_products = device.type == "cpu" and dtype == torch.float32
        # Of block 0: its runs, and for each query head the tokens of its values.
        runs = torch.arange(2 * shape.num_kv_heads, device=device).view(2, 1, -1, 1) * (num_blocks + 1)
        values = runs[1].view(-1, 1, 1).repeat_interleave(self._group, 0) * block_size
        self._first_runs = runs
        self._first_tokens = values + torch.arange(block_size, device=device)

    def layer(self, index: int) -> torch.Tensor:
        """One layer, [2 × kv heads, blocks + 1, block size × head dim], for kernels that find the blocks themselves."""
        return self._blocks[index]

    def span(self, num_sequences: int, rows_each: int, blocks: torch.Tensor, bias: torch.Tensor) -> Span:
        """blocks: integers [num_sequences × blocks each]; bias: that of `Span`. To be used before the next step's."""
        bags = None
        if self._by_products and rows_each == 1 and len(blocks) >= MANY_BLOCKS:
            bags = self._bags(num_sequences, blocks)
        first_runs = self._first_runs[: 1 if bags else 2]
        runs = (blocks.view(1, num_sequences, 1, -1) + first_runs).view(-1)
        return Span(num_sequences, rows_each, runs, self._room(len(runs)), bags, bias)

    def _bags(self, num_sequences: int, blocks: torch.Tensor) -> Bags:
        tokens = (blocks * self.block_size).view(num_sequences, 1, -1, 1) + self._first_tokens
        each = tokens.shape[2] * tokens.shape[3]
        return Bags(tokens.view(-1), torch.arange(0, tokens.numel(), each))

    def _room(self, runs: int) -> torch.Tensor:
        """[runs, block size × head dim], the same memory for all spans and layers, one after the other.

        In new memory each time, the kernel's page faults cost as much as the copy (64 sequences in float32).
        """
        if len(self._gathered) < runs:
            self._gathered = self._gathered.new_empty(runs, self._gathered.shape[1])
        return self._gathered[:runs]

    def write(self, layer: int, key_values: torch.Tensor, slots: torch.Tensor) -> None:
        """Store key_values [rows, 2 × kv heads, head dim] at slots [rows] (block · block size + offset)."""
        self._slots[layer].index_copy_(1, slots, key_values.view(self._widest).transpose(0, 1))

    def attend(self, layer: int, queries: torch.Tensor, span: Span) -> torch.Tensor:
        """queries [span's rows, heads, head dim] → [span's rows, heads × head dim]."""
        torch.index_select(self._runs[layer], 0, span.runs, out=span.gathered)
        if span.bags is not None:
            return self._sum_in_bags(layer, self._by_sequence(queries, span), span.gathered, span.bags, span.bias)
        keys, values = span.gathered.view(2, span.num_sequences * self._kv_heads, -1, self._head_dim).unbind(0)
        return self._by_row(self._product(self._by_sequence(queries, span), keys, values, span.bias), span)

    def _by_sequence(self, queries: torch.Tensor, span: Span) -> torch.Tensor:
        """[span's rows, heads, head dim] → [sequences × kv heads, query heads per kv head × rows each, head dim]."""
        kv, group, head_dim, rows = self._kv_heads, self._group, self._head_dim, span.rows_each
        if rows == 1:
            return queries.reshape(-1, group, head_dim)
        queries = queries.view(-1, rows, kv, group, head_dim).permute(0, 2, 3, 1, 4)
        return queries.reshape(-1, group * rows, head_dim)

    def _by_row(self, attended: torch.Tensor, span: Span) -> torch.Tensor:
        """Back to [span's rows, heads × head dim]."""
        kv, group, head_dim, rows = self._kv_heads, self._group, self._head_dim, span.rows_each
        if rows > 1:
            attended = attended.view(-1, kv, group, rows, head_dim).permute(0, 3, 1, 2, 4)
        return attended.reshape(-1, kv * group * head_dim)

    def _sum_in_bags(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, bags: Bags, bias: torch.Tensor
    ) -> torch.Tensor:
        keys = keys.view(len(queries), -1, self._head_dim)
        scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=self._scale)
        shares = torch.softmax(scores, -1).view(-1)
        # torch.embedding_bag, not F.embedding_bag, whose checks in Python take half as long again.
        sums = torch.embedding_bag(self._tokens[layer], bags.tokens, bags.starts, mode=0, per_sample_weights=shares)[0]
        return sums.view(-1, self._kv_heads * self._group * self._head_dim)

    def _product(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        if self._by_products and queries.shape[1] * keys.shape[1] <= FEW_SCORES:
            scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=self._scale)
            return torch.bmm(torch.softmax(scores, -1), values)
        bias = bias.expand(queries.shape[0], queries.shape[1], -1).unsqueeze(1)
        queries, keys, values = queries.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=self._scale).squeeze(1)


def _widest(head_dim: int, dtype: torch.dtype) -> torch.dtype:
    """To copy heads as fewer, wider numbers, because index_copy_ moves number by number (41 and 34 µs for 16 rows)."""
    return torch.int64 if head_dim * dtype.itemsize % 8 == 0 else dtype


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
