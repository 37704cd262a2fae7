"""The computations of a decode step's kernels (engine/kernels.py), in plain PyTorch: row by row, in float32.

The Triton kernels are compared with it, and the pretended GPU, which can run none, computes with it.
"""

import torch

from lab_support.engine.kernels import DecodeRows


class PlainKernels:
    def rotate_and_write(
        self,
        qkv: torch.Tensor,
        layer: torch.Tensor,
        rotations: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
    ) -> None:
        head_dim, stored = qkv.shape[2], layer.shape[0]
        rotated = qkv.shape[1] - stored // 2
        pairs = torch.view_as_complex(qkv[:, :rotated].float().unflatten(-1, (-1, 2)))
        turned = pairs * rotations.index_select(0, positions)
        qkv[:, :rotated].copy_(torch.view_as_real(turned).flatten(-2))
        layer.view(stored, -1, head_dim).index_copy_(1, slots.long(), qkv[:, -stored:].transpose(0, 1))

    def attend(self, qkv: torch.Tensor, layer: torch.Tensor, rows: DecodeRows, block_size: int) -> torch.Tensor:
        """All columns are looked at, and those behind the position masked: lengths never come to the host."""
        kv_heads, head_dim = layer.shape[0] // 2, qkv.shape[2]
        count, heads = qkv.shape[0], qkv.shape[1] - 2 * kv_heads
        table = rows.tables.index_select(1, rows.table_rows).T.flatten()
        found = layer.view(2 * kv_heads, -1, block_size, head_dim).index_select(1, table)
        found = found.view(2, kv_heads, count, -1, head_dim).float()
        queries = qkv[:, :heads].view(count, kv_heads, -1, head_dim).transpose(0, 1).float()
        scores = queries @ found[0].transpose(-1, -2) * head_dim**-0.5
        beyond = torch.arange(found.shape[3], device=qkv.device) > rows.positions.unsqueeze(1)
        weights = scores.masked_fill(beyond.unsqueeze(1), float("-inf")).softmax(-1)
        return (weights @ found[1]).transpose(0, 1).reshape(count, -1).to(qkv.dtype)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.float().chunk(2, -1)
        return (torch.nn.functional.silu(gate) * up).to(gate_up.dtype)
