"""GPU memory in use, in all and by process: from NVML by ctypes, or from nvidia-smi if NVML is missing.

It makes no CUDA context and so costs no GPU memory; a process that only looks here has not touched CUDA.
"""

import ctypes
import os
import subprocess
from ctypes import byref, c_char_p, c_int, c_uint, c_void_p
from typing import Any, Protocol

from lab_support.experiments.cuda.cuda_declarations import NOT_TOLD, NVML, MemoryInfo, ProcessInfo

NVML_LIBRARY = "libnvidia-ml.so.1"
MIB = 1 << 20
_MOST_PROCESSES = 256


class GpuMemory(Protocol):
    """used: bytes, or None without a GPU. processes: bytes by pid (None: not told)."""

    source: str

    def used(self) -> int | None: ...

    def processes(self) -> dict[int, int | None]: ...


class NvmlError(OSError):
    """NVML answered with a code other than 0."""


class Nvml:
    """The device that CUDA sees as 0. Raises OSError if there is no NVML or no such device."""

    source = "NVML"

    def __init__(self) -> None:
        self._library = ctypes.CDLL(NVML_LIBRARY)
        self._call("nvmlInit_v2")
        self._device = c_void_p()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
        if first.startswith(("GPU-", "MIG-")):
            self._call("nvmlDeviceGetHandleByUUID", first.encode(), byref(self._device))
        else:
            self._call("nvmlDeviceGetHandleByIndex_v2", int(first or 0), byref(self._device))
        self.used()

    def used(self) -> int:
        info = MemoryInfo()
        self._call("nvmlDeviceGetMemoryInfo", self._device, byref(info))
        return int(info.used)

    def processes(self) -> dict[int, int | None]:
        """By the driver's pids, which differ from ours in a pid namespace."""
        count, infos = c_uint(_MOST_PROCESSES), (ProcessInfo * _MOST_PROCESSES)()
        self._call("nvmlDeviceGetComputeRunningProcesses_v3", self._device, byref(count), infos)
        return {info.pid: None if info.used == NOT_TOLD else int(info.used) for info in infos[: count.value]}

    def device_count(self) -> int:
        count = c_uint()
        self._call("nvmlDeviceGetCount_v2", byref(count))
        return int(count.value)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NvmlError(f"{name}: no such symbol in {NVML_LIBRARY}") from None
        function.argtypes, function.restype = NVML[name], c_int
        if code := function(*arguments):
            self._library.nvmlErrorString.argtypes, self._library.nvmlErrorString.restype = (c_int,), c_char_p
            text = (self._library.nvmlErrorString(code) or b"").decode()
            raise NvmlError(f"{name}: NVML's code {code}, {text}")


class NvidiaSmi:
    """The same by nvidia-smi, which takes some ten milliseconds a call. Raises OSError if it is not installed."""

    source = "nvidia-smi"

    def __init__(self) -> None:
        self.used()

    def used(self) -> int:
        first = ask_nvidia_smi("--query-gpu=memory.used")["output"].partition("\n")[0].strip()
        if not first.isdigit():
            raise NvmlError(f"nvidia-smi: got {first!r}, expected a number of MiB")
        return int(first) * MIB

    def processes(self) -> dict[int, int | None]:
        lines = ask_nvidia_smi("--query-compute-apps=pid,used_memory")["output"].splitlines()
        fields = [line.split(",") for line in lines if line.count(",") == 1]
        return {int(pid): int(size) * MIB if size.strip().isdigit() else None for pid, size in fields}


class Untold:
    """For rehearsals on a CPU and machines with neither NVML nor nvidia-smi: experiments run without this figure."""

    def __init__(self, source: str) -> None:
        self.source = source

    def used(self) -> None:
        return None

    def processes(self) -> dict[int, int | None]:
        return {}


def open_gpu_memory(device: str) -> GpuMemory:
    """The best source here; its `source` names it, or says why there is none."""
    if device == "cpu":
        return Untold("no GPU")
    reasons = []
    for way in (Nvml, NvidiaSmi):
        try:
            return way()
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(str(error))
    return Untold("; ".join(reasons))


def ask_nvidia_smi(query: str) -> dict[str, Any]:
    """nvidia-smi's output and errors for `query` as csv. Raises OSError without nvidia-smi."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return {"command": " ".join(command), "exit_code": done.returncode, "output": done.stdout, "errors": done.stderr}


def look(memory: GpuMemory) -> dict[str, Any]:
    """Fields for a sample: memory in use, in all and by process; a refusal is a field, too."""
    found: dict[str, Any] = {"source": memory.source}
    for name in ("used", "processes"):
        try:
            found[name] = getattr(memory, name)()
        except OSError as error:
            found[name] = None
            found[f"{name}_error"] = str(error)
    return found


def nvidia_smi_says(query: str = "--query-compute-apps=pid,process_name,used_memory") -> dict[str, Any]:
    """nvidia-smi's count of memory by process, or why it has none."""
    try:
        return ask_nvidia_smi(query)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"command": f"nvidia-smi {query}", "exit_code": None, "output": "", "errors": str(error)}
