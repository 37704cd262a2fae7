"""RMS normalisation: PyTorch's own (on any device), and in a few fast operations (on a CPU).

Also that of single heads, which Qwen3 applies to queries and keys.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F


class Norm(Protocol):
    """x / rms(x) · weight for x of shape [rows, hidden]."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...


class PlainNorm:
    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self._weight, self._epsilon = weight, epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self._weight.shape, self._weight, self._epsilon)


class FastNorm:
    """The same from the length of x: √(mean x² + ε) = √(|x|² + n·ε) / √n. 4.6 µs a call; PyTorch's takes 7.9."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self._weight = weight * math.sqrt(len(weight))
        self._least = torch.tensor(math.sqrt(len(weight) * epsilon))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(self._least)
        return (x / length).mul_(self._weight)


class FastHalfNorm:
    """FastNorm for 16 bits: computed in float32 and rounded once. 10 µs a call; PyTorch's takes 16."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self._norm = FastNorm(weight.float(), epsilon)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._norm(x.float()).to(x.dtype)


class HeadNorm:
    """Normalises each head by itself, in place: heads [rows, heads, head dim], weight [heads, head dim].

    Plain PyTorch everywhere: three more launches a layer on a GPU, which a CUDA graph captures like all others.
    """

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self._weight, self._epsilon = weight, epsilon

    def __call__(self, heads: torch.Tensor) -> None:
        heads.copy_(F.rms_norm(heads, heads.shape[-1:], None, self._epsilon).mul_(self._weight))


def norm_class(device: torch.device, dtype: torch.dtype) -> type[PlainNorm | FastNorm | FastHalfNorm]:
    """The fastest one here."""
    if device.type != "cpu":
        return PlainNorm
    return FastNorm if dtype == torch.float32 else FastHalfNorm
