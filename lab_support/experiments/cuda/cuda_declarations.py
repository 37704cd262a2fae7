"""NVIDIA's declarations of the calls that the experiments make: signatures, structures, constants.

For ctypes, on 64-bit Linux. Everything here is checked: tests/experiments/test_cuda_headers.py compiles a program
against the machine's headers and compares each size, offset, number and parameter with this file.
"""

from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_size_t,
    c_ubyte,
    c_uint,
    c_uint64,
    c_ulonglong,
    c_ushort,
    c_void_p,
)
from typing import Any

PINNED = 1  # CU_MEM_ALLOCATION_TYPE_PINNED
POSIX_FILE_DESCRIPTOR = 1  # CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
ON_DEVICE = 1  # CU_MEM_LOCATION_TYPE_DEVICE
READ_WRITE = 3  # CU_MEM_ACCESS_FLAGS_PROT_READWRITE
SMALLEST = 0  # CU_MEM_ALLOC_GRANULARITY_MINIMUM
HAS_VIRTUAL_MEMORY = 102  # CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
HAS_POSIX_DESCRIPTORS = 103  # CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
NOT_TOLD = (1 << 64) - 1  # NVML_VALUE_NOT_AVAILABLE, as 64 unsigned bits


class MemoryLocation(Structure):
    """CUmemLocation, 8 bytes."""

    _fields_ = (("type", c_int), ("id", c_int))


class AllocationFlags(Structure):
    """CUmemAllocationProp.allocFlags, 8 bytes."""

    _fields_ = (
        ("compression_type", c_ubyte),
        ("gpu_direct_rdma_capable", c_ubyte),
        ("usage", c_ushort),
        ("reserved", c_ubyte * 4),
    )


class AllocationProperties(Structure):
    """CUmemAllocationProp, 32 bytes: location at 8, the Windows pointer at 16, the flags at 24."""

    _fields_ = (
        ("type", c_int),
        ("requested_handle_types", c_int),
        ("location", MemoryLocation),
        ("win32_handle_meta_data", c_void_p),
        ("flags", AllocationFlags),
    )


class AccessDescription(Structure):
    """CUmemAccessDesc, 12 bytes."""

    _fields_ = (("location", MemoryLocation), ("flags", c_int))


class MemoryInfo(Structure):
    """nvmlMemory_t, 24 bytes."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class ProcessInfo(Structure):
    """nvmlProcessInfo_t of version 2, 24 bytes, which the calls of version 3 fill."""

    _fields_ = (("pid", c_uint), ("used", c_ulonglong), ("gpu_instance", c_uint), ("compute_instance", c_uint))


# Exported names, because dlsym finds those: the header's cuMemAlloc is the symbol cuMemAlloc_v2, and in CUDA 13
# cuCtxCreate is cuCtxCreate_v4. CUdevice is an int; device addresses and memory handles have 64 bits.
DRIVER: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuCtxCreate_v2": (POINTER(c_void_p), c_uint, c_int),
    "cuCtxCreate_v4": (POINTER(c_void_p), c_void_p, c_uint, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxGetCurrent": (POINTER(c_void_p),),
    "cuCtxSynchronize": (),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuMemGetAllocationGranularity": (POINTER(c_size_t), POINTER(AllocationProperties), c_int),
    "cuMemCreate": (POINTER(c_uint64), c_size_t, POINTER(AllocationProperties), c_uint64),
    "cuMemExportToShareableHandle": (c_void_p, c_uint64, c_int, c_uint64),
    "cuMemImportFromShareableHandle": (POINTER(c_uint64), c_void_p, c_int),
    "cuMemAddressReserve": (POINTER(c_uint64), c_size_t, c_size_t, c_uint64, c_uint64),
    "cuMemMap": (c_uint64, c_size_t, c_size_t, c_uint64, c_uint64),
    "cuMemSetAccess": (c_uint64, c_size_t, POINTER(AccessDescription), c_size_t),
    "cuMemUnmap": (c_uint64, c_size_t),
    "cuMemRelease": (c_uint64,),
}
"""Each returns a CUresult."""

RUNTIME: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
}
"""Each returns a cudaError_t; cudaGetErrorName takes one and returns text."""

NVML: dict[str, tuple[Any, ...]] = {
    "nvmlInit_v2": (),
    "nvmlDeviceGetCount_v2": (POINTER(c_uint),),
    "nvmlDeviceGetHandleByIndex_v2": (c_uint, POINTER(c_void_p)),
    "nvmlDeviceGetHandleByUUID": (c_char_p, POINTER(c_void_p)),
    "nvmlDeviceGetMemoryInfo": (c_void_p, POINTER(MemoryInfo)),
    "nvmlDeviceGetComputeRunningProcesses_v3": (c_void_p, POINTER(c_uint), POINTER(ProcessInfo)),
}
"""Each returns an nvmlReturn_t; nvmlErrorString takes one and returns text."""
