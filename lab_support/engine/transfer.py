"""The two ways between Python's lists and the device, of which only one waits for it.

A step has one wait: the sampled tokens, on their way to the host. `to_device` doesn't wait: from pinned memory a copy
is queued behind what runs. From ordinary memory torch would wait for it (ATen/native/cuda/Copy.cu), and with it for
everything that was queued before.
"""

from collections.abc import Sequence

import torch


def to_device(numbers: Sequence[int] | Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[len(numbers)] on `device`."""
    return send(torch.tensor(numbers, dtype=dtype), device)


def send(here: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host's tensor on `device`: itself on a CPU, otherwise a copy for which nobody waits."""
    return pinned(here, device).to(device, non_blocking=True)


def pinned(here: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host's tensor in memory from which `device` copies by itself; on a CPU as it is."""
    return here if device.type == "cpu" else here.pin_memory()


def to_host(there: torch.Tensor) -> list:
    """Nested lists of `there`'s numbers. Waits until the device has computed them."""
    return there.cpu().tolist()
