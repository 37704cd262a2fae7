"""libcuda and libcudart by ctypes: each call answers with the library's code and the code's name. No torch.

cuda_declarations.py has the declarations. Nothing here judges the codes; callers record them.
"""

import ctypes
import importlib.util
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.experiments.cuda.cuda_declarations import (
    DRIVER,
    ON_DEVICE,
    PINNED,
    POSIX_FILE_DESCRIPTOR,
    READ_WRITE,
    RUNTIME,
    SMALLEST,
    AccessDescription,
    AllocationProperties,
    MemoryLocation,
)

DRIVER_LIBRARY = "libcuda.so.1"
NO_SYMBOL = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """One call's answer. code: the library's number, or `NO_SYMBOL` if it has no such function; name: of that code."""

    call: str
    code: int
    name: str
    value: int | None = None

    @property
    def ok(self) -> bool:
        return self.code == 0


class Driver:
    """The driver API on device 0. Raises OSError if there is no libcuda. Makes no call by itself."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(DRIVER_LIBRARY)

    def call(self, name: str, *arguments: Any) -> Answer:
        """Call `name` with its arguments as declared; if the library lacks it, the answer says so."""
        if not hasattr(self._library, name):
            return Answer(name, NO_SYMBOL, "no such symbol in the library")
        code = _declared(self._library, name, DRIVER[name])(*arguments)
        return Answer(name, code, self.error_name(code))

    def error_name(self, code: int) -> str:
        text = c_char_p()
        _declared(self._library, "cuGetErrorName", DRIVER["cuGetErrorName"])(code, byref(text))
        return (text.value or b"").decode()

    def init(self) -> Answer:
        return self.call("cuInit", 0)

    def version(self) -> Answer:
        return self._asking("cuDriverGetVersion", c_int())

    def device_count(self) -> Answer:
        return self._asking("cuDeviceGetCount", c_int())

    def attribute(self, which: int) -> Answer:
        return self._asking("cuDeviceGetAttribute", c_int(), which, 0)

    def create_context(self) -> Answer:
        """Make a new context, current in this thread.

        Drivers keep old symbols: those of CUDA 12 and 13 have _v2; _v4 exists since 12.5.
        """
        context = c_void_p()
        answer = self.call("cuCtxCreate_v2", byref(context), 0, 0)
        if answer.code == NO_SYMBOL:
            answer = self.call("cuCtxCreate_v4", byref(context), None, 0, 0)
        return answer

    def retain_primary_context(self) -> Answer:
        """Make the context that the runtime API and torch use current in this thread."""
        context = c_void_p()
        answer = self.call("cuDevicePrimaryCtxRetain", byref(context), 0)
        return self.call("cuCtxSetCurrent", context) if answer.ok else answer

    def current_context(self) -> Answer:
        """value: 1 if there is one, 0 if not, because its address means nothing outside this process."""
        context = c_void_p()
        answer = self.call("cuCtxGetCurrent", byref(context))
        return Answer(answer.call, answer.code, answer.name, int(bool(context.value)) if answer.ok else None)

    def allocate(self, size: int) -> Answer:
        return self._asking("cuMemAlloc_v2", c_uint64(), size)

    def synchronize(self) -> Answer:
        return self.call("cuCtxSynchronize")

    def copy_in(self, address: int, data: bytes) -> Answer:
        return self.call("cuMemcpyHtoD_v2", address, data, len(data))

    def copy_out(self, address: int, size: int) -> tuple[Answer, bytes]:
        data = ctypes.create_string_buffer(size)
        answer = self.call("cuMemcpyDtoH_v2", data, address, size)
        return answer, data.raw

    # ---- virtual memory ----

    def granularity(self) -> Answer:
        properties = allocation_properties()
        return self._asking("cuMemGetAllocationGranularity", c_size_t(), byref(properties), SMALLEST)

    def create_memory(self, size: int) -> Answer:
        """value: a handle to physical memory that is not mapped yet."""
        properties = allocation_properties()
        return self._asking("cuMemCreate", c_uint64(), size, byref(properties), 0)

    def export_memory(self, handle: int) -> Answer:
        """value: a new file descriptor of this process."""
        return self._asking("cuMemExportToShareableHandle", c_int(-1), handle, POSIX_FILE_DESCRIPTOR, 0)

    def import_memory(self, descriptor: int) -> Answer:
        """value: a handle. The descriptor number is passed in place of a pointer, and we still have to close it."""
        return self._asking("cuMemImportFromShareableHandle", c_uint64(), descriptor, POSIX_FILE_DESCRIPTOR)

    def reserve_addresses(self, size: int) -> Answer:
        return self._asking("cuMemAddressReserve", c_uint64(), size, 0, 0, 0)

    def map_memory(self, address: int, size: int, handle: int) -> Answer:
        return self.call("cuMemMap", address, size, 0, handle, 0)

    def allow_access(self, address: int, size: int) -> Answer:
        access = AccessDescription(MemoryLocation(ON_DEVICE, 0), READ_WRITE)
        return self.call("cuMemSetAccess", address, size, byref(access), 1)

    def unmap_memory(self, address: int, size: int) -> Answer:
        return self.call("cuMemUnmap", address, size)

    def release_memory(self, handle: int) -> Answer:
        return self.call("cuMemRelease", handle)

    def _asking(self, name: str, value: Any, *arguments: Any) -> Answer:
        """Make a call whose first argument points to its integer result."""
        answer = self.call(name, byref(value), *arguments)
        return Answer(answer.call, answer.code, answer.name, value.value if answer.ok else None)


def _declared(library: ctypes.CDLL, name: str, parameters: tuple[Any, ...]) -> Any:
    """The function with its declaration, so that ctypes passes a Python int as 64 bits where 64 are declared."""
    function = getattr(library, name)
    function.argtypes, function.restype = parameters, c_int
    return function


def allocation_properties() -> AllocationProperties:
    """Pinned memory on device 0 that can become a POSIX file descriptor."""
    return AllocationProperties(
        type=PINNED, requested_handle_types=POSIX_FILE_DESCRIPTOR, location=MemoryLocation(ON_DEVICE, 0)
    )


class Runtime:
    """The runtime API, from the library that torch brings. Raises OSError if none is found."""

    def __init__(self) -> None:
        self.path = find_runtime()
        self._library = ctypes.CDLL(self.path)
        self._library.cudaGetErrorName.argtypes, self._library.cudaGetErrorName.restype = (c_int,), c_char_p

    def device_count(self) -> Answer:
        return self._asking("cudaGetDeviceCount", c_int())

    def allocate(self, size: int) -> Answer:
        return self._asking("cudaMalloc", c_void_p(), size)

    def version(self) -> Answer:
        return self._asking("cudaRuntimeGetVersion", c_int())

    def _asking(self, name: str, value: Any, *arguments: Any) -> Answer:
        code = _declared(self._library, name, RUNTIME[name])(byref(value), *arguments)
        text = (self._library.cudaGetErrorName(code) or b"").decode()
        return Answer(name, code, text, value.value if code == 0 else None)


def find_runtime() -> str:
    """Path of libcudart: torch's wheels bring it in `nvidia/…/lib` or `torch/lib`. Imports nothing."""
    spec = importlib.util.find_spec("torch")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for place in places:
        found = sorted([*place.glob("lib/libcudart*.so*"), *place.parent.glob("nvidia/*/lib/libcudart.so*")])
        if found:
            return str(found[-1])
    installed = sorted(Path("/usr/local").glob("cuda*/lib*/libcudart.so*"))
    if not installed:
        raise OSError(
            "got no libcudart beside torch or in /usr/local/cuda*, expected one; install a CUDA build of torch"
        )
    return str(installed[-1])
