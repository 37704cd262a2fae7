"""What a layer of a decode step needs beside matrix products, one launch each.

In plain PyTorch a layer of a decode step is some thirty launches, for each of which the host takes longer than the GPU.
On an H200 a step of 1.2 billion parameters took 15 ms so, whose weights can be read in 0.6. With these kernels it is
ten launches a layer, and captured as a graph (decode_graphs.py) 1.5 ms. They are Triton's, which comes with PyTorch's
CUDA wheels (triton_kernels.py); whether this machine has them, `open_kernels.py` finds out.
"""

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """Rows with one token each, whose sequences' blocks are read in place.

    positions: int32 [rows], of each row's token. table_rows: int32 [rows], where in `tables` its block table is.
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
    """On tensors of one GPU; each writes into memory that is given or newly allocated, and waits for nothing.

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
        """Rotate queries in place, and store the rotated keys and the values at slots. rotations: rope.py's."""
        ...

    def attend(self, qkv: torch.Tensor, layer: torch.Tensor, rows: DecodeRows, block_size: int) -> torch.Tensor:
        """[rows, query heads × head dim]: each row's query over its sequence's blocks, up to its position."""
        ...

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) · up, [rows, inner], of gate_up [rows, 2 × inner]."""
        ...
