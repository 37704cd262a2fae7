"""The smallest real use of a device by torch, and what torch's own guard says; shared by the torch experiments."""

from typing import Any

import torch


def first_operation(device: str) -> float:
    """One tensor, one addition, brought back to the host: the device has done it when this returns."""
    return (torch.zeros(1, device=device) + 1).item()


def guard() -> dict[str, Any]:
    """What torch thinks of this process."""
    return {"is_in_bad_fork": torch.cuda._is_in_bad_fork(), "is_initialized": torch.cuda.is_initialized()}


def guarded_operation(device: str) -> dict[str, Any]:
    """The guard before, the operation; raises what the operation raises, with the guard in its notes."""
    before = guard()
    return {**before, "result": first_operation(device)}
