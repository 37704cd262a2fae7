"""The smallest real use of a device by torch, and the state of torch's fork guard; shared by the torch experiments."""

from typing import Any

import torch


def first_operation(device: str) -> float:
    """One addition to one tensor, copied back to the host, so the device has finished when this returns."""
    return (torch.zeros(1, device=device) + 1).item()


def guard() -> dict[str, Any]:
    """The state of torch's guard in this process."""
    return {"is_in_bad_fork": torch.cuda._is_in_bad_fork(), "is_initialized": torch.cuda.is_initialized()}


def guarded_operation(device: str) -> dict[str, Any]:
    """The guard's state, then the operation; its exceptions carry the guard's state in their notes."""
    before = guard()
    return {**before, "result": first_operation(device)}
