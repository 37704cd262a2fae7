"""The kernels of a decode step (kernels.py) in Triton. Imported only where there is a GPU.

Attention is "flash-decoding": the tokens of each sequence are split among several programs, so that even one sequence
occupies the whole GPU; each runs the softmax online over its share, and a second kernel combines the shares. Their
number depends only on the number of rows, and lengths are read from the GPU's memory, so a captured graph serves
sequences of any length.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import torch
import triton
import triton.language as tl

from lab_support.engine.kernels import DecodeRows

MOST_SPLITS = 32
LOG2_E = 1.4426950408889634
TILE_BYTES = 16 << 10
"""Bytes of keys in one tile, and as many of values. The best of ten variants on an H200 for heads of 64 and 128 in
bfloat16: over 64 × 4,096 tokens attention reaches 98 and 99 % of its copy bandwidth, in other variants only 65."""


class TritonKernels:
    """num_programs: the least number of programs of `_attend` in a step, to occupy the GPU: two for each multiprocessor
    of an H200. Twice and four times as many were no better."""

    def __init__(self, num_programs: int = 264) -> None:
        self._num_programs = num_programs

    def rotate_and_write(
        self,
        qkv: torch.Tensor,
        layer: torch.Tensor,
        rotations: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
    ) -> None:
        rows, heads, head_dim = qkv.shape
        kv_heads = layer.shape[0] // 2
        _rotate_and_write[(rows, heads)](
            qkv, layer, torch.view_as_real(rotations), positions, slots, qkv.stride(0), layer.stride(0),
            QUERY_HEADS=heads - 2 * kv_heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim,
            PAIRS=triton.next_power_of_2(head_dim // 2), num_warps=1,
        )  # fmt: skip

    def attend(self, qkv: torch.Tensor, layer: torch.Tensor, rows: DecodeRows, block_size: int) -> torch.Tensor:
        count, head_dim, kv_heads = len(qkv), qkv.shape[2], layer.shape[0] // 2
        heads = qkv.shape[1] - 2 * kv_heads
        splits = self._splits(count * kv_heads)
        sums = qkv.new_empty((count, heads, splits, head_dim), dtype=torch.float32)
        scales = qkv.new_empty((count, heads, splits, 2), dtype=torch.float32)
        out = qkv.new_empty((count, heads * head_dim))
        padded_dim = max(16, triton.next_power_of_2(head_dim))
        tokens = max(16, min(128, TILE_BYTES // (padded_dim * layer.itemsize)))
        _attend[(count, kv_heads, splits)](
            qkv, layer, rows.positions, rows.table_rows, rows.tables, out, sums, scales,
            qkv.stride(0), layer.stride(0), rows.tables.stride(0), head_dim**-0.5 * LOG2_E,
            GROUP=heads // kv_heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim, BLOCK_SIZE=block_size,
            DIRECT=splits == 1, TOKENS=tokens, QUERIES=max(16, triton.next_power_of_2(heads // kv_heads)),
            DIM=padded_dim, num_warps=4, num_stages=3,
        )  # fmt: skip
        if splits > 1:
            _combine[(count, heads)](
                out, sums, scales, splits, HEAD_DIM=head_dim, SPLITS=MOST_SPLITS, DIM=padded_dim, num_warps=4
            )
        return out

    def _splits(self, programs: int) -> int:
        """1, 2, 4, …: enough for `num_programs` in all."""
        return min(MOST_SPLITS, triton.next_power_of_2(-(-self._num_programs // programs)))

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty((rows, inner))
        _gate[(rows, triton.cdiv(inner, 1024))](gate_up, out, inner, SIZE=1024, num_warps=4)
        return out


# Triton would compile a second kernel for addresses that 16 divides; a mixed step's integers lie anywhere.
@triton.jit(do_not_specialize_on_alignment=["positions", "slots"])
def _rotate_and_write(
    qkv, layer, rotations, positions, slots, row_stride, head_stride,
    QUERY_HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """One head of one row. A layer may have more than 2³¹ numbers, so offsets into it have 64 bits."""
    row, head = tl.program_id(0), tl.program_id(1)
    pair = tl.arange(0, PAIRS)
    inside = pair < HEAD_DIM // 2
    source = qkv + row.to(tl.int64) * row_stride + head * HEAD_DIM + 2 * pair
    even = tl.load(source, mask=inside, other=0.0)
    odd = tl.load(source + 1, mask=inside, other=0.0)
    if head < QUERY_HEADS + KV_HEADS:
        angle = rotations + tl.load(positions + row).to(tl.int64) * HEAD_DIM + 2 * pair
        cos = tl.load(angle, mask=inside, other=0.0)
        sin = tl.load(angle + 1, mask=inside, other=0.0)
        x, y = even.to(tl.float32), odd.to(tl.float32)
        even = (x * cos - y * sin).to(qkv.dtype.element_ty)
        odd = (x * sin + y * cos).to(qkv.dtype.element_ty)
    if head < QUERY_HEADS:
        tl.store(source, even, mask=inside)
        tl.store(source + 1, odd, mask=inside)
    else:
        slot = tl.load(slots + row).to(tl.int64)
        target = layer + (head - QUERY_HEADS).to(tl.int64) * head_stride + slot * HEAD_DIM + 2 * pair
        tl.store(target, even, mask=inside)
        tl.store(target + 1, odd, mask=inside)


@triton.jit(do_not_specialize_on_alignment=["positions", "table_rows", "tables"])
def _attend(
    qkv, layer, positions, table_rows, tables, out, sums, scales, row_stride, head_stride, column_stride, scale,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    DIRECT: tl.constexpr, TOKENS: tl.constexpr, QUERIES: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """One row's queries of one key-value head, over one share of its tokens.

    Queries are padded to 16, the least that a tensor core multiplies; each key is read once for the whole group.
    """
    row, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(positions + row) + 1
    table = tables + tl.load(table_rows + row)
    share = tl.cdiv(tl.cdiv(length, tl.num_programs(2)), TOKENS) * TOKENS
    start = split * share
    end = tl.minimum(start + share, length)

    query, dim = tl.arange(0, QUERIES), tl.arange(0, DIM)
    head = kv_head * GROUP + query
    is_query = (query < GROUP)[:, None] & (dim < HEAD_DIM)[None, :]
    q = tl.load(qkv + row.to(tl.int64) * row_stride + head[:, None] * HEAD_DIM + dim[None, :], mask=is_query, other=0.0)
    keys = layer + kv_head.to(tl.int64) * head_stride
    values = layer + (kv_head + KV_HEADS).to(tl.int64) * head_stride

    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    summed = tl.zeros([QUERIES, DIM], tl.float32)
    for at in range(start, end, TOKENS):
        token = at + tl.arange(0, TOKENS)
        seen = token < end
        block = tl.load(table + (token // BLOCK_SIZE) * column_stride, mask=seen, other=0).to(tl.int64)
        place = (block * BLOCK_SIZE + token % BLOCK_SIZE) * HEAD_DIM
        k = tl.load(keys + place[None, :] + dim[:, None], mask=seen[None, :] & (dim < HEAD_DIM)[:, None], other=0.0)
        scores = tl.dot(q, k, input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(values + place[:, None] + dim[None, :], mask=seen[:, None] & (dim < HEAD_DIM)[None, :], other=0.0)
        summed = summed * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        highest = higher

    if DIRECT:
        target = out + (row.to(tl.int64) * KV_HEADS * GROUP + head[:, None]) * HEAD_DIM + dim[None, :]
        tl.store(target, (summed / total[:, None]).to(out.dtype.element_ty), mask=is_query)
    else:
        place = (row.to(tl.int64) * KV_HEADS * GROUP + head) * tl.num_programs(2) + split
        tl.store(sums + place[:, None] * HEAD_DIM + dim[None, :], summed, mask=is_query)
        tl.store(scales + place * 2, highest, mask=query < GROUP)
        tl.store(scales + place * 2 + 1, total, mask=query < GROUP)


@triton.jit(do_not_specialize=["splits"])
def _combine(
    out, sums, scales, splits, HEAD_DIM: tl.constexpr, SPLITS: tl.constexpr, DIM: tl.constexpr
):  # fmt: skip
    """Combine the shares of one query head of one row, each rescaled from its own highest score to the highest of all.
    A share without tokens has the scale exp2(-inf) = 0."""
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    split, dim = tl.arange(0, SPLITS), tl.arange(0, DIM)
    there = split < splits
    pair = scales + (place * splits + split) * 2
    highest = tl.load(pair, mask=there, other=float("-inf"))
    scale = tl.exp2(highest - tl.max(highest, 0))
    total = tl.sum(scale * tl.load(pair + 1, mask=there, other=0.0), 0)
    mask = there[:, None] & (dim < HEAD_DIM)[None, :]
    shares = tl.load(sums + (place * splits + split)[:, None] * HEAD_DIM + dim[None, :], mask=mask, other=0.0)
    mixed = tl.sum(shares * scale[:, None], 0) / total
    tl.store(out + place * HEAD_DIM + dim, mixed.to(out.dtype.element_ty), mask=dim < HEAD_DIM)


@triton.jit
def _gate(gate_up, out, inner, SIZE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = place < inner
    gate = tl.load(gate_up + row * 2 * inner + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * inner + inner + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * inner + place, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)
