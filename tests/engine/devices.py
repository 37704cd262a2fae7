"""The devices on which the same test bodies run: the CPU, a pretended GPU, and a real one where there is one.

Use as `@pytest.mark.parametrize("device", ON_ALL, indirect=True)`; conftest.py makes the `Device`. On a machine without
a GPU the third is skipped, and says why.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.engine.pretended_gpu import DEVICE, PretendedGpu, pretended_gpu

CPU, PRETENDED, CUDA = "cpu", "pretended GPU", "cuda"
REAL = pytest.param(CUDA, marks=pytest.mark.gpu)
ON_ALL = [CPU, PRETENDED, REAL]
ON_GPUS = [PRETENDED, REAL]
ON_REAL = [CPU, REAL]


@dataclass(frozen=True)
class Device:
    """flag: for --device. torch: the device for transformers. near: most difference of float32 logits from a CPU's.

    On a GPU `near` is a generous guess, made without one: a GPU adds in another order, in blocks.
    """

    name: str
    flag: str
    torch: torch.device
    near: float
    pretended: PretendedGpu | None = None

    def put(self, tensor: Tensor) -> Tensor:
        return tensor.to(DEVICE if self.pretended else self.torch)

    @contextmanager
    def waits(self) -> Iterator[list[str]]:
        """Operations that waited for the device; the list is complete when the context has ended."""
        found: list[str] = []
        if self.pretended:
            before = len(self.pretended.waits)
            yield found
            found += self.pretended.waits[before:]
            return
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found += [str(one.message) for one in said if "synchroniz" in str(one.message)]


def why_no_gpu() -> str:
    """Why no test can run on a GPU here; "" where one can."""
    if torch.version.cuda is None:
        return f"needs a GPU: torch {torch.__version__} was built without CUDA"
    return "" if torch.cuda.is_available() else f"needs a GPU: torch {torch.__version__} sees none"


@contextmanager
def opened(name: str) -> Iterator[Device]:
    """The device of that name. Skips the test where there is none."""
    if name == PRETENDED:
        with pretended_gpu() as gpu:
            yield Device(name, "cuda", torch.device("cpu"), 1e-4, gpu)
        return
    if name == CUDA and (reason := why_no_gpu()):
        pytest.skip(reason)
    yield Device(name, name, torch.device(name), 1e-4 if name == CPU else 1e-3)
