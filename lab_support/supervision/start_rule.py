"""When must a process not fork? Seven reasons, each found by looking at the process, and the choice that follows.

A fork copies memory, and memory refers to things outside it: threads, a GPU's driver, connections to other processes.
These are not copied, so in the child the memory is wrong. Each reason finds one such thing.

Nothing here starts, imports or initialises anything, because a rule that asked the driver would cause what it should
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
    """The facts about a process that the rule needs, as plain values that can be kept, sent and judged elsewhere.

    threads: the kernel's count of threads besides the calling one. python_threads: the names of those that Python
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
        """The calling process, now. Reads /proc/self and the modules that are already loaded."""
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
    """The method to start children by: as asked, or spawn if a reason rules that out. Raises `ConfigError`."""
    _demand_known(asked, asked_by)
    against = tuple(reason.text for reason in reasons(seen) if asked in reason.rules_out)
    return StartChoice(asked, asked_by, "spawn" if against else asked, against)


def asked_for(flag: str | None, environment: Mapping[str, str]) -> tuple[str, str]:
    """(method, who asked for it): the flag, else the variable, else the default. Raises `ConfigError`."""
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
_FORK_ANYWHERE = ("fork", "forkserver")  # a fork server forks, too, though from a process that holds only Python


def reasons(seen: Seen) -> list[Reason]:
    """All reasons against a start method in the process that was `seen`."""
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
    """Count mappings, not open files, because NVML opens the device's files too, and harms no child. Only the driver
    maps them: 3 parts after cuInit, 31 with a context, on an H200 (data/recordings/what_a_touch_leaves.json)."""
    if not mappings or has_cuda:
        return ""
    return (
        f"a GPU driver is initialised in this process (it maps {mappings} part{'s' * (mappings > 1)} of /dev/nvidia*), "
        "and its state means nothing to a child"
    )


def other_threads(count: int, named: Sequence[str]) -> str:
    """By the kernel's count, as in Python 3.12's warning at a fork: Python itself knows no threads of C libraries."""
    if count <= 0:
        return ""
    of_python = f", {len(named)} of them Python's: {', '.join(named)}" if named else ", none of them Python's"
    return (
        f"{count} other thread{'s run' if count > 1 else ' runs'} here{of_python}, and a forked child has none of them"
    )


def ray_actor(actor: str) -> str:
    """vLLM's reason, too: Ray's worker talks to its cluster over threads and connections of its own."""
    return f"this is the Ray actor {actor}, whose connections to Ray a forked child would use as well" if actor else ""


def jupyter_kernel(inside: bool) -> str:
    """The kernel's sockets and its loop are copied; a child that leaves its cell goes on as a second kernel."""
    return "this is a Jupyter kernel, and a forked child can become a second one" if inside else ""


def wsl(proc_version: str) -> str:
    """Windows Subsystem for Linux: /proc/version names Microsoft. NVML fails in a forked child (vLLM's pull request
    32749)."""
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
    """The id of the actor that runs here; "" in a task, in a driver, and if Ray was never imported."""
    ray = modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    return ray.get_runtime_context().get_actor_id() or ""


def is_jupyter_kernel(modules: Mapping[str, Any]) -> bool:
    """Whether this process runs one; having imported ipykernel is not enough."""
    app = getattr(modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return bool(app and app.initialized())


def _count_threads(known: int) -> int:
    """The kernel's count of other threads, or Python's if the kernel can't be asked.

    Before Python 3.13 `join` may return a moment before the thread has ended for the kernel. So if the kernel counts
    more than Python, look again for a little while: threads of a C library are still there then.
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
