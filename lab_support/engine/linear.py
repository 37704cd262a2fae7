"""One linear layer, two ways to compute it: plain (any device), and prepacked for oneDNN (CPU).

MKL's float32 product is slow on some CPUs. Weights that were brought into oneDNN's own layout once, at load, make
it 1.3 to 2.4 times faster at 16 rows (measured: hidden 256, one thread), and the residual is added on the way.
"""

from typing import Protocol

import torch
import torch.nn.functional as F

# oneDNN compiles a kernel for every number of rows: 3 to 6 ms and about 3 MB for one model's shapes, measured.
# So rows are padded to one of these.
ROW_BUCKETS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 192, 256, 384, 512)


class Linear(Protocol):
    """y = x Wᵀ + b for x of shape [rows, inputs]."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, outputs]"""
        ...

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """residual + y, of shape [rows, outputs]."""
        ...


class PlainLinear:
    """What PyTorch does by itself, on any device and in any dtype."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias).add_(residual)


class PackedLinear:
    """Prepacked for oneDNN. These operators are not PyTorch's public interface, but torch.compile's own CPU path
    stands on them (torch/_inductor/mkldnn_lowerings.py); `can_pack` looks before they are used."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = torch.ops.mkldnn._reorder_linear_weight(weight, 16), bias
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._product_and_sum = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, self._weight, self._bias, "none", [], "")

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self._product_and_sum(x, residual, self._weight, self._bias, "add")


def can_pack(device: torch.device) -> bool:
    """Whether `PackedLinear` works here: a CPU, and a PyTorch built with oneDNN (not so on macOS)."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def pad_rows(rows: int) -> int:
    """The bucket for so many rows; above the largest bucket, the next multiple of 256."""
    for bucket in ROW_BUCKETS:
        if rows <= bucket:
            return bucket
    return -(-rows // 256) * 256
