"""PyTorch's guard against CUDA in a forked child, driven by hand. The guard is PyTorch's, not CUDA's, so it works in
builds without CUDA too.

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
    """missing: the reason why it can't be driven here; "" if it can. Its mangled C++ names may change with torch.

    Where it is missing, registering does nothing and no flag is set, so that a cell's program runs to its end.
    """

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
        """Register as torch does before its first call to the device's runtime. This process can't undo it."""
        if not self.missing:
            self._register(ctypes.c_int8(device))

    def is_set(self, device: int = CUDA) -> bool:
        """Whether this process is a forked child of one that has registered; torch asks this before each start."""
        return not self.missing and bool(self._is_set(ctypes.c_int8(device)))


def _library() -> str:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise OSError("torch is not installed")
    return str(Path(spec.origin).parent / "lib" / "libtorch_python.so")
