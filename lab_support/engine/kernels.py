"""The operations of a decode step's layer besides matrix products, one launch each.

In plain PyTorch a layer of a decode step is some thirty launches, and each takes the host longer than the GPU. On an
H200 a step of 1.2 billion parameters took 15 ms this way; reading its weights takes 0.6 ms. With these kernels it is
ten launches a layer, and captured as a graph (decode_graphs.py) it takes 1.5 ms. They are written in Triton, which
comes with PyTorch's CUDA wheels (triton_kernels.py); open_kernels.py finds out whether this machine can run them.
"""

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """Rows with one token each, whose sequences' blocks are read in place.

    positions: int32 [rows], of each row's token. table_rows: int32 [rows], the place of its block table in `tables`.
    tables: int32 [columns, sequences]: a sequence's blocks below each other, so that the first columns of all lie
        together, and a step copies to the GPU only as many as its longest sequence has.
    """

    positions: torch.Tensor
    table_rows: torch.Tensor
    tables: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.positions)


class Kernels(Protocol):
    """Operations on tensors of one GPU. Each writes into given or newly allocated memory, and waits for nothing.

    qkv [rows, heads, head dim] holds query, key and value heads in this order; layer [2 × kv heads, blocks, block
    size × head dim] is one layer of the KV cache (attention.py).
    """

    def rotate_and_write(
        self,
        qkv: torch.Tensor,
        layer: torch.Tensor,
        rotations: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
    ) -> None:
        """Rotate queries in place; store the rotated keys and the values at slots. rotations: those of rope.py."""
        ...

    def attend(self, qkv: torch.Tensor, layer: torch.Tensor, rows: DecodeRows, block_size: int) -> torch.Tensor:
        """[rows, query heads × head dim]: each row's query over its sequence's blocks, up to its position."""
        ...

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) · up, [rows, inner], of gate_up [rows, 2 × inner]."""
        ...
