"""When must a process not fork? Seven reasons, each seen in what the process is, and the choice that follows.

A fork copies memory, and memory speaks of things that lie outside it: threads, a GPU's driver, connections to other
processes. These are not copied, so in the child the memory is wrong. Each reason finds one such thing.

Nothing here starts, imports or initialises anything: a rule that asked the driver would bring about what it is to
prevent. Standard library only, for any program that makes processes:

    choice = choose("fork", Seen.here())
    if choice.warning:
        log.warning(choice.warning)
    context = multiprocessing.get_context(choice.method)

Our launcher holds no torch, no driver and no second thread, so it hardly ever trips a reason. vLLM's rule is
`_maybe_force_spawn` in `vllm/utils/system_utils.py` (0.33.0): CUDA, Ray and WSL as here; it does not look at threads.

Taught in: 06_which_start_method
"""

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lab_support.boundary.start_choice import DEFAULT, StartChoice
from lab_support.config import ConfigError

METHODS = ("spawn", "forkserver", "fork")
FLAG = "--start-method"
VARIABLE = "LAB_START_METHOD"
_SETTLING = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rule looks at, as plain values, so that one can be kept, sent and judged elsewhere.

    threads: how many others the kernel counts beside the calling one. python_threads: the names of those that Python
    knows. device_mappings: parts of this process's memory that are a GPU's files, /dev/nvidia*. ray_actor: its id, ""
    outside one.
    """

    platform: str
    proc_version: str
    threads: int
    python_threads: tuple[str, ...]
    device_mappings: int
    torch_has_cuda: bool
    ray_actor: str
    jupyter_kernel: bool

    @classmethod
    def here(cls) -> Self:
        """Of the calling process, now. Reads /proc/self and the modules that are loaded already."""
        own = threading.current_thread()
        named = tuple(thread.name for thread in threading.enumerate() if thread is not own)
        return cls(
            platform=sys.platform,
            proc_version=_text("/proc/version"),
            threads=_count_threads(len(named)),
            python_threads=named,
            device_mappings=_count_device_mappings(),
            torch_has_cuda=torch_has_cuda(sys.modules),
            ray_actor=ray_actor_id(sys.modules),
            jupyter_kernel=is_jupyter_kernel(sys.modules),
        )


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a start method is out. `text` ends the sentence "fork is out, because …"."""

    text: str
    rules_out: tuple[str, ...]


def choose(asked: str, seen: Seen, asked_by: str = "the program") -> StartChoice:
    """The method to start children by: as asked, or spawn where a reason rules that out. Raises `ConfigError`."""
    _demand_known(asked, asked_by)
    against = tuple(reason.text for reason in reasons(seen) if asked in reason.rules_out)
    return StartChoice(asked, asked_by, "spawn" if against else asked, against)


def asked_for(flag: str | None, environment: Mapping[str, str]) -> tuple[str, str]:
    """(method, who asked for it): the flag, or else the variable, or else nobody. Raises `ConfigError`."""
    variable = environment.get(VARIABLE)
    if variable is not None:
        _demand_known(variable, VARIABLE)
    if flag is None:
        return (variable, VARIABLE) if variable else (DEFAULT, "default")
    unused = f", which wins over {VARIABLE}={variable}" if variable not in (None, flag) else ""
    return flag, FLAG + unused


def _demand_known(method: str, asked_by: str) -> None:
    if method not in METHODS:
        raise ConfigError(f"{asked_by}: got {method!r} as a start method, expected one of {', '.join(METHODS)}")


# ---- the reasons -----------------------------------------------------------------------------------------------------

_FORK = ("fork",)
_FORK_ANYWHERE = ("fork", "forkserver")  # a fork server forks, too, from a process with nothing but Python in it


def reasons(seen: Seen) -> list[Reason]:
    """All that speak against a start method in the process that was `seen`."""
    found = (
        Reason(cuda_in_torch(seen.torch_has_cuda), _FORK),
        Reason(cuda_outside_torch(seen.device_mappings, seen.torch_has_cuda), _FORK),
        Reason(other_threads(seen.threads, seen.python_threads), _FORK),
        Reason(ray_actor(seen.ray_actor), _FORK),
        Reason(jupyter_kernel(seen.jupyter_kernel), _FORK),
        Reason(wsl(seen.proc_version), _FORK),
        Reason(macos(seen.platform), _FORK_ANYWHERE),
    )
    return [reason for reason in found if reason.text]


def cuda_in_torch(has_cuda: bool) -> str:
    """PyTorch refuses CUDA in a child that was forked after it had initialised it."""
    return "PyTorch has initialised CUDA in this process, and refuses it to a forked child" if has_cuda else ""


def cuda_outside_torch(mappings: int, has_cuda: bool) -> str:
    """NVML opens the device's files as CUDA's driver does, and harms no child. Only the driver maps them: 3 parts after
    cuInit, 31 with a context, on an H200 (data/recordings/what_a_touch_leaves.json)."""
    if not mappings or has_cuda:
        return ""
    return (
        f"a GPU driver is initialised in this process (it maps {mappings} part{'s' * (mappings > 1)} of /dev/nvidia*), "
        "and its state means nothing to a child"
    )


def other_threads(count: int, named: Sequence[str]) -> str:
    """The kernel's count: threads of C libraries are none of Python's. Python 3.12 warns at a fork on this count."""
    if count <= 0:
        return ""
    of_python = f", {len(named)} of them Python's: {', '.join(named)}" if named else ", none of them Python's"
    return (
        f"{count} other thread{'s run' if count > 1 else ' runs'} here{of_python}, and a forked child has none of them"
    )


def ray_actor(actor: str) -> str:
    """vLLM's reason, too: Ray's worker talks to its cluster by threads and connections of its own."""
    return f"this is the Ray actor {actor}, whose connections to Ray a forked child would use as well" if actor else ""


def jupyter_kernel(inside: bool) -> str:
    """The kernel's sockets and its loop are copied; a child that leaves its cell goes on as a second kernel."""
    return "this is a Jupyter kernel, and a forked child can become a second one" if inside else ""


def wsl(proc_version: str) -> str:
    """Windows' Linux names Microsoft in /proc/version. NVML fails in a forked child: vLLM's pull request 32749."""
    return "this is WSL, where NVML fails in a forked child" if "microsoft" in proc_version.lower() else ""


def macos(platform: str) -> str:
    """Python's documentation of `multiprocessing`: system libraries may start threads, so fork is unsafe there."""
    return "this is macOS, where system libraries may start threads unseen" if platform == "darwin" else ""


# ---- looking, with nothing touched -----------------------------------------------------------------------------------


def torch_has_cuda(modules: Mapping[str, Any]) -> bool:
    """`is_initialized` reads a variable; `is_available` may initialise the driver, and is never called here."""
    asked = getattr(modules.get("torch.cuda"), "is_initialized", None)
    return bool(asked and asked())


def ray_actor_id(modules: Mapping[str, Any]) -> str:
    """Of the actor that runs here; "" in a task, in a driver, and where Ray was never imported."""
    ray = modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    return ray.get_runtime_context().get_actor_id() or ""


def is_jupyter_kernel(modules: Mapping[str, Any]) -> bool:
    """Whether this process runs one; to have ipykernel imported is not enough."""
    app = getattr(modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return bool(app and app.initialized())


def _count_threads(known: int) -> int:
    """How many others the kernel counts, or where it can't be asked, Python.

    Before Python 3.13 `join` may return a moment before the kernel has let go of the thread. So where there are more
    than Python knows, look again for a little while: threads of a C library are still there then.
    """
    if not os.path.isdir("/proc/self/task"):
        return known
    deadline = time.monotonic() + _SETTLING
    while (count := len(_names("/proc/self/task")) - 1) > known and time.monotonic() < deadline:
        time.sleep(0.001)
    return count


def _count_device_mappings() -> int:
    return sum("/dev/nvidia" in line for line in _text("/proc/self/maps").splitlines())


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")  # paths in it may be any bytes
    except OSError:
        return ""
