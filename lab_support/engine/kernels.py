"""What a layer of a decode step needs beside matrix products, one launch each; and whether this machine has them.

In plain PyTorch a layer of a decode step is some thirty launches, for each of which the host takes longer than the GPU.
On an H200 a step of 1.2 billion parameters took 15 ms so, whose weights can be read in 0.6. With these kernels it is
ten launches a layer, and captured as a graph (decode_graphs.py) 1.5 ms. They are Triton's, which comes with PyTorch's
CUDA wheels.
"""

import logging
from typing import Protocol

import torch

from lab_support.engine.decode_rows import DecodeRows

log = logging.getLogger("lab.engine")


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


def open_kernels(device: torch.device) -> Kernels | None:
    """The kernels, tried once; None on a CPU, and where they can't be compiled: then everything is plain PyTorch."""
    if device.type != "cuda":
        return None
    try:
        from lab_support.engine.triton_kernels import TritonKernels

        kernels = TritonKernels()
        kernels.gate(torch.zeros(1, 2, device=device))
    except Exception as error:  # whatever a compiler says: no kernels is no failure
        # Triton compiles a launcher for each kernel with the machine's C compiler and Python's headers.
        log.warning(
            "decode steps will be several times slower: Triton's kernels got %s: %s; they need the package triton, "
            "gcc, and Python's headers (Debian, Ubuntu: apt install gcc python3-dev)", type(error).__name__, error
        )  # fmt: skip
        return None
    return kernels
