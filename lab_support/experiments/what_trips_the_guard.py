"""2. What must a parent do with CUDA so that its forked child can't use it? A table of small touches.

Each case is a fresh parent that does one thing and forks; the child tries a first operation. Each runs twice: plainly,
and with PYTORCH_NVML_BASED_CUDA_CHECK=1. Samples: `parent did`, `forked child`, `case ended`.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch

from lab_support.experiments.child import in_forked_child
from lab_support.experiments.first_operation import first_operation, guard
from lab_support.experiments.gpu_memory import Nvml
from lab_support.experiments.program import attempt, emit, exit_code, run_cases, start

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
WAYS: dict[str, dict[str, str]] = {"plain": {NVML_CHECK: "0"}, "nvml check": {NVML_CHECK: "1"}}


def touches(device: str) -> dict[str, Callable[[], Any]]:
    """The parent's actions before it forks, by name."""
    return {
        "nothing": lambda: None,
        "is_available": torch.cuda.is_available,
        "device_count": torch.cuda.device_count,
        "NVML alone": lambda: Nvml().device_count(),
        "manual_seed": lambda: torch.manual_seed(0).initial_seed(),
        "first operation": lambda: first_operation(device),
    }


def main() -> int:
    options = start(__doc__ or "")
    if options.case:
        return run_case(options.case.partition(", ")[0], options.device)
    cases = {f"{touch}, {way}": env for touch in touches(options.device) for way, env in WAYS.items()}
    ended = run_cases("lab_support.experiments.what_trips_the_guard", cases, options, options.seconds - 10)
    return exit_code(ended)


def run_case(touch: str, device: str) -> int:
    emit("parent did", touch=touch, **attempt(touches(device)[touch]), guard=guard())
    emit("forked child", touch=touch, asks="the guard", **in_forked_child(guard))
    emit("forked child", touch=touch, asks="first operation", **in_forked_child(lambda: first_operation(device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
