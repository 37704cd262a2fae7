"""14. What does a process hold once it has touched CUDA, and how little is a touch? Seen from outside torch.

Each case is a fresh process that does one thing, from loading a library to a first operation of torch, and then
records its own descriptors in /dev, its mappings of device files, its threads and, if torch is loaded, torch's guard.
No child is made. Samples: `touched`, `holds`, `case ended`.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from lab_support.experiments.cuda.cuda_driver import Driver, Runtime
from lab_support.experiments.gpu_memory import Nvml
from lab_support.experiments.idle_forked_child import inherited
from lab_support.experiments.program import attempt, emit, exit_code, open_descriptors, run_cases, start

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
MODULE = "lab_support.experiments.what_a_touch_leaves"


def context() -> Any:
    driver = Driver()
    return [driver.init(), driver.create_context()]


def of_torch(name: str, device: str) -> Any:
    """Import torch and ask it one thing."""
    import torch

    from lab_support.experiments.first_operation import first_operation

    return {
        "import torch": lambda: None,
        "torch.cuda.is_available": torch.cuda.is_available,
        "torch.cuda.is_available by NVML": torch.cuda.is_available,
        "torch.cuda.device_count": torch.cuda.device_count,
        "torch, first operation": lambda: first_operation(device),
    }[name]()


TOUCHES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "NVML": lambda: Nvml().device_count(),
    "libcuda loaded": lambda: ctypes.CDLL("libcuda.so.1") and None,
    "libcudart loaded": lambda: Runtime() and None,
    "cudaRuntimeGetVersion": lambda: Runtime().version(),
    "cudaGetDeviceCount": lambda: Runtime().device_count(),
    "cuInit": lambda: Driver().init(),
    "cuInit, cuCtxCreate": context,
}
OF_TORCH = (
    "import torch",
    "torch.cuda.is_available",
    "torch.cuda.is_available by NVML",
    "torch.cuda.device_count",
    "torch, first operation",
)


def main() -> int:
    options = start(__doc__ or "")
    if options.case:
        return run_case(options.case, options.device)
    cases = {name: {NVML_CHECK: "1" if "by NVML" in name else "0"} for name in (*TOUCHES, *OF_TORCH)}
    return exit_code(run_cases(MODULE, cases, options, options.seconds - 5))


def run_case(name: str, device: str) -> int:
    emit("touched", **attempt(TOUCHES.get(name, lambda: of_torch(name, device))))
    devices = sorted(target for target in open_descriptors().values() if target.startswith("/dev/"))
    emit("holds", devices=devices, **inherited("self"), guard=_guard())
    return 0


def _guard() -> dict[str, Any] | None:
    if "torch" not in sys.modules:
        return None
    from lab_support.experiments.first_operation import guard

    return guard()


if __name__ == "__main__":
    sys.exit(main())
