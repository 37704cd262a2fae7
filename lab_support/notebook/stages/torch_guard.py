"""PyTorch's guard against CUDA in a forked child, driven by hand: it works in builds without CUDA too. It is PyTorch's
guard, not CUDA.

The two C++ functions are in libtorch_python.so (torch/csrc/utils/device_lazy_init.h, read in torch 2.13.0). torch
calls the first one right before its first call to a device's runtime; it registers a handler by `pthread_atfork`,
which sets the flag in each forked child. Importing this imports no torch; it runs in a cell's own processes.

Taught in: 05_why_does_cuda_break_after_fork
"""

import ctypes
import importlib.util
from pathlib import Path

CUDA = 1
"""c10::DeviceType::CUDA."""
_REGISTER = "_ZN5torch5utils37register_fork_handler_for_device_initEN3c1010DeviceTypeE"
_IS_SET = "_ZN5torch5utils21is_device_in_bad_forkEN3c1010DeviceTypeE"


class Guard:
    """missing: why it can't be driven here; "" if it can. The names are C++'s, mangled, and may change with torch."""

    def __init__(self) -> None:
        self.missing = ""
        try:
            library = ctypes.CDLL(_library())
            self._register, self._is_set = library[_REGISTER], library[_IS_SET]
        except (AttributeError, OSError) as error:
            self.missing = f"the guard's functions are not in this build of torch: {error}"
            return
        self._is_set.restype = ctypes.c_bool

    def register(self, device: int = CUDA) -> None:
        """What torch does before it first calls the device's runtime. There is no way back in this process."""
        self._register(ctypes.c_int8(device))

    def is_set(self, device: int = CUDA) -> bool:
        """Whether this process is the forked child of one that has registered: what torch asks before each start."""
        return bool(self._is_set(ctypes.c_int8(device)))


def _library() -> str:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise OSError("torch is not installed")
    return str(Path(spec.origin).parent / "lib" / "libtorch_python.so")
