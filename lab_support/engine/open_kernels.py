"""Finds out whether this machine can run the kernels of kernels.py."""

import logging

import torch

from lab_support.engine.kernels import Kernels

log = logging.getLogger("lab.engine")


def open_kernels(device: torch.device) -> Kernels | None:
    """The kernels, tried once; None on a CPU, or if they can't be compiled: then everything is plain PyTorch."""
    if device.type != "cuda":
        return None
    try:
        from lab_support.engine.triton_kernels import TritonKernels

        kernels = TritonKernels()
        kernels.gate(torch.zeros(1, 2, device=device))
    except Exception as error:  # a compiler may raise anything, and the server works without kernels
        # Triton compiles a launcher for each kernel with the machine's C compiler and Python's headers.
        log.warning(
            "decode steps will be several times slower: Triton's kernels got %s: %s; they need the package triton, "
            "gcc, and Python's headers (Debian, Ubuntu: apt install gcc python3-dev)", type(error).__name__, error
        )  # fmt: skip
        return None
    return kernels
