"""Our ctypes declarations of CUDA's libraries are compared with NVIDIA's headers and libraries, argument by argument.

Skips, with the reason, where the headers are missing. CUDA_HOME=FOLDER compares with another version's.
"""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from lab_support.experiments.cuda import cuda_declarations as ours
from lab_support.experiments.cuda.cuda_driver import Runtime
from tests.experiments import cuda_headers
from tests.experiments.cuda_headers import ask, declares, described, fits

NUMBERS = {
    "CU_MEM_ALLOCATION_TYPE_PINNED": ours.PINNED,
    "CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR": ours.POSIX_FILE_DESCRIPTOR,
    "CU_MEM_LOCATION_TYPE_DEVICE": ours.ON_DEVICE,
    "CU_MEM_ACCESS_FLAGS_PROT_READWRITE": ours.READ_WRITE,
    "CU_MEM_ALLOC_GRANULARITY_MINIMUM": ours.SMALLEST,
    "CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": ours.HAS_VIRTUAL_MEMORY,
    "CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED": ours.HAS_POSIX_DESCRIPTORS,
}
NVML_NUMBERS = {"NVML_VALUE_NOT_AVAILABLE": ours.NOT_TOLD}
# Each of our structures: NVIDIA's name, and NVIDIA's names of the fields in order.
STRUCTURES = {
    ours.MemoryLocation: ("CUmemLocation", "type id"),
    ours.AccessDescription: ("CUmemAccessDesc", "location flags"),
    ours.AllocationProperties: (
        "CUmemAllocationProp",
        "type requestedHandleTypes location win32HandleMetaData allocFlags",
    ),
    ours.AllocationFlags: ("AllocFlags", "compressionType gpuDirectRDMACapable usage reserved"),
}
ALLOC_FLAGS = "using AllocFlags = decltype(CUmemAllocationProp::allocFlags);"  # it has no name of its own
NVML_STRUCTURES = {
    ours.MemoryInfo: ("nvmlMemory_t", "total free used"),
    ours.ProcessInfo: ("nvmlProcessInfo_t", "pid usedGpuMemory gpuInstanceId computeInstanceId"),
}


def folder_of(header: str) -> Path:
    if cuda_headers.COMPILER is None:
        pytest.skip("no C++ compiler here to ask what the headers declare")
    folder = cuda_headers.find(header)
    if folder is None:
        pytest.skip(f"no {header} in $CUDA_HOME, beside torch or in /usr/local/cuda*: nothing to compare with")
    return folder


def compare_functions(header: str, functions: dict[str, tuple], build: Path, extra: dict[str, str]) -> None:
    """Every function that this version declares; `extra` are further ones in our words."""
    folder = folder_of(header)
    there = [name for name in [*functions, *extra] if declares(folder, header, name)]
    found = ask(folder, header, [f"FUNCTION({name})" for name in there], build)
    for name in there:
        parameters, _, result = found[name].rpartition("-> ")
        expected = extra.get(name) or " ".join([*map(described, functions[name]), "-> i32"])
        wanted, _, wanted_result = expected.rpartition("-> ")
        pairs = list(zip(wanted.split(), parameters.split(), strict=True))
        assert all(fits(one, other) for one, other in pairs), f"{name}: we pass {wanted}, declared is {parameters}"
        assert fits(wanted_result, result), f"{name}: we take {wanted_result}, it returns {result}"
    missing = set(functions) | set(extra)
    assert missing - set(there) <= {"cuCtxCreate_v4"}, "declared nowhere in this header"


def compare_structures(header: str, structures: dict, numbers: dict[str, int], build: Path, before: str = "") -> None:
    folder = folder_of(header)
    questions = [before, *(f"NUMBER({name})" for name in numbers)]
    for name, fields in structures.values():
        questions += [f"SIZE({name})", *(f"PLACE({name}, {field})" for field in fields.split())]
    found = ask(folder, header, questions, build)
    for name, value in numbers.items():
        assert int(found[name]) == value, name
    for kind, (name, fields) in structures.items():
        assert int(found[name]) == ctypes.sizeof(kind), name
        for (our_name, *_), field in zip(kind._fields_, fields.split(), strict=True):
            assert int(found[f"{name}.{field}"]) == getattr(kind, our_name).offset, f"{name}.{field}"


def test_the_driver_s_functions_are_called_as_cuda_h_declares_them(tmp_path):
    compare_functions("cuda.h", ours.DRIVER, tmp_path, {})


def test_the_runtime_s_functions_are_called_as_its_header_declares_them(tmp_path):
    compare_functions("cuda_runtime_api.h", ours.RUNTIME, tmp_path, {"cudaGetErrorName": "i32 -> pi8"})


def test_nvml_s_functions_are_called_as_nvml_h_declares_them(tmp_path):
    compare_functions("nvml.h", ours.NVML, tmp_path, {"nvmlErrorString": "i32 -> pi8"})


def test_structures_and_numbers_are_those_of_cuda_h(tmp_path):
    compare_structures("cuda.h", STRUCTURES, NUMBERS, tmp_path, ALLOC_FLAGS)


def test_structures_and_numbers_are_those_of_nvml_h(tmp_path):
    compare_structures("nvml.h", NVML_STRUCTURES, NVML_NUMBERS, tmp_path)


def test_the_words_of_a_declaration():
    assert described(ctypes.POINTER(ours.MemoryInfo)) == "ps24" and described(ctypes.c_size_t) == "u64"
    assert fits("p", "ps32") and fits("pp", "pp") and fits("pp", "ppi32") and fits("ppi8", "ppi8")
    assert not fits("u32", "u64") and not fits("i32", "pi32") and not fits("p", "u64") and not fits("ps24", "ps32")


@pytest.mark.parametrize(("source", "header"), [("pretend_driver.c", "cuda.h"), ("pretend_nvml.c", "nvml.h")])
def test_a_stand_in_has_the_signatures_of_what_it_stands_in_for(source, header):
    """Compiled after the header: a definition that differs from the declaration is an error."""
    folder, switch = folder_of(header), f"-DWITH_{header.replace('.', '_').upper()}"
    command = [
        "cc", "-fsyntax-only", "-w", switch, "-D__CUDA_API_VERSION_INTERNAL", "-I", str(folder),
        str(Path(__file__).with_name(source)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- NVIDIA's libraries, without a GPU -------------------------------------------------------------------------------


def test_the_runtime_library_answers_without_a_gpu_too():
    """The calls themselves: a version, and a refusal that the library names."""
    try:
        runtime = Runtime()
    except OSError as error:
        pytest.skip(f"no libcudart here: {error}")
    version, count, memory = runtime.version(), runtime.device_count(), runtime.allocate(1)
    assert version.code == 0 and version.value and version.value >= 12_000
    for answer in (count, memory):
        assert answer.ok == (answer.code == 0) and answer.name.startswith("cuda")


def test_the_driver_s_library_knows_every_function_that_is_called():
    """In a process of its own, because it makes calls. Without a GPU the real libcuda answers too, with a refusal."""
    script = """
import ctypes
from lab_support.experiments.cuda.cuda_declarations import DRIVER
from lab_support.experiments.cuda.cuda_driver import DRIVER_LIBRARY, Driver
library = ctypes.CDLL(DRIVER_LIBRARY)
print(*[name for name in DRIVER if not hasattr(library, name)])
driver = Driver()
print(driver.init().name, driver.version().value, driver.device_count().name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "cannot open shared object file" in done.stderr:
        pytest.skip("no libcuda.so.1 here: NVIDIA's driver is not installed")
    assert done.returncode == 0, done.stderr
    missing, answers = done.stdout.splitlines()
    assert set(missing.split()) < {"cuCtxCreate_v2", "cuCtxCreate_v4"}, "one of the two is enough"
    assert all(name.startswith("CUDA_") for name in answers.split()[::2]), answers
