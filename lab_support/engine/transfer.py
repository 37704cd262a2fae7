"""Copies between Python's lists and the device, of which only one direction waits.

A step has one wait: for the sampled tokens, on their way to the host. `to_device` doesn't wait: a copy from pinned
memory is queued behind the running work. For a copy from ordinary memory torch would wait (ATen/native/cuda/Copy.cu),
and so for everything that was queued before it.
"""

from collections.abc import Sequence

import torch


def to_device(numbers: Sequence[int] | Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor [len(numbers)] on `device`."""
    return send(torch.tensor(numbers, dtype=dtype), device)


def send(here: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The host's tensor on `device`: itself on a CPU, otherwise a copy for which nobody waits."""
    return pinned(here, device).to(device, non_blocking=True)


def pinned(here: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The host's tensor in pinned memory, from which `device` copies by itself; on a CPU the tensor itself."""
    return here if device.type == "cpu" else here.pin_memory()


def to_host(there: torch.Tensor) -> list:
    """Nested lists of `there`'s numbers. Waits until the device has computed them."""
    return there.cpu().tolist()
