"""One linear layer, three ways to compute it. `choose` picks one, once for a model.

PlainLinear: PyTorch's own, on any device. PackedLinear: weights prepacked for oneDNN, 1.3 to 2.4 times faster than that
at 16 rows. HalfLinear: float32 arithmetic on weights kept in 16 bits, as the checkpoint has them (x86): 10 to 15 %
faster again up to 16 rows, half the memory to read in each step, and nothing compiled; the whole loop with 16 clients
became a fifth faster (CPU time, on a busy machine).
"""

from enum import Enum
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
        """residual + y, of shape [rows, outputs]. May overwrite residual."""
        ...


class PlainLinear:
    """PyTorch's own product, on any device and in any dtype."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if self._bias is not None:
            return F.linear(x, self._weight, self._bias).add_(residual)
        return residual.addmm_(x, self._weight.T)  # adds within the product; add_ would be one more launch


class PackedLinear:
    """Prepacked for oneDNN. These operators are not PyTorch's public interface, but torch.compile's own CPU path uses
    them (torch/_inductor/mkldnn_lowerings.py). Rows come padded to a bucket (`pad_rows`)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = torch.ops.mkldnn._reorder_linear_weight(weight, 16), bias
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._product_and_sum = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, self._weight, self._bias, "none", [], "")

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self._product_and_sum(x, residual, self._weight, self._bias, "add")


class HalfLinear:
    """FBGEMM's product of float32 rows with float16 weights, widened to float32 in registers and summed in float32.

    float16 holds a bfloat16 weight exactly from 2⁻¹⁷ to 65504 in size; `fits_half` checks the error of others.
    No kernel is compiled for it, so rows needn't be padded.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        self._product = torch.ops.quantized.linear_dynamic_fp16.default

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, self._weight)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, self._weight).add_(residual)


class LinearKind(Enum):
    PLAIN = "PyTorch's own"
    PACKED = "prepacked for oneDNN"
    HALF = "weights kept in 16 bits"


def choose(device: torch.device, dtype: torch.dtype, *, from_16_bits: bool) -> LinearKind:
    """The best kind that works here. `from_16_bits`: the checkpoint's weights have at most 16 bits."""
    if device.type != "cpu":
        return LinearKind.PLAIN
    if dtype == torch.float32 and from_16_bits and "fbgemm" in torch.backends.quantized.supported_engines:
        return LinearKind.HALF
    return LinearKind.PACKED if _can_pack(dtype) else LinearKind.PLAIN


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN takes weights of this dtype. It refuses 16 bits on CPUs without AVX-512 or its like."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype != torch.float16 or torch.ops.mkldnn._is_mkldnn_fp16_supported()


def make(kind: LinearKind, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """weight [outputs, inputs], bias [outputs]; neither is needed afterwards."""
    if kind is LinearKind.PACKED:
        return PackedLinear(weight, bias)
    if kind is LinearKind.HALF and fits_half(weight):
        return HalfLinear(weight, bias)
    return PlainLinear(weight, bias)


def fits_half(weight: torch.Tensor) -> bool:
    """Whether float16 changes no weight by more than 10⁻⁵ of the largest in its row, and in its column.

    Ordinary weights fit: only those below 2⁻¹⁷ change, by at most 3·10⁻⁸.
    """
    size, lost = weight.abs(), weight.half().float().sub_(weight).abs_()
    return all(bool((lost.amax(dim) <= 1e-5 * size.amax(dim)).all()) for dim in (0, 1))


def pad_rows(rows: int) -> int:
    """The bucket for this many rows; above the largest bucket, the next multiple of 256."""
    for bucket in ROW_BUCKETS:
        if rows <= bucket:
            return bucket
    return -(-rows // 256) * 256
