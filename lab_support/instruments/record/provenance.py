"""The origin of a recording: machine, GPU, driver, CUDA, torch, Python, kernel. Imports neither torch nor the server.

A program in its own process, `lab_support.experiments.gpu_facts`, asks torch and the driver. A sandbox that imitates
Linux is named, because its answers about processes are no evidence of how Linux behaves.
"""

import ctypes
import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab_support.instruments.record.fingerprint import fingerprint

ROOT = Path(__file__).resolve().parents[3]
SERVER_PARTS = ("config.py", "generation.py", "model_folder", "processes", "boundary", "frontend", "engine")
GVISOR_VERSION = "#1 SMP Sun Jan 10 15:06:54 PST 2016"  # gVisor reports this as `uname -v` in every release
_SYSLOG_READ_ALL = 3


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that runs experiments. "" or 0: not known. Sizes in bytes.

    sandbox: the sandboxed kernel's name and the signs of it, "" for plain Linux. torch_problem: why torch can't use a
    GPU here, "" if it can. cuda: the driver's CUDA version; torch_cuda: the one that torch was built for.
    """

    machine: str
    gpu: str
    gpus: int
    gpu_memory: int
    gpu_settings: str
    driver: str
    cuda: str
    torch: str
    torch_cuda: str
    torch_problem: str
    driver_problem: str
    python: str
    kernel: str
    sandbox: str


def machine(samples: Iterable[dict[str, Any]]) -> Machine:
    """This machine, from the samples of `gpu_facts`; without them nothing is known of torch and the GPU."""
    found = {sample["what"]: sample for sample in samples}
    driver, torch = found.get("driver", {}), found.get("torch", {})
    facts, answers = torch.get("value") or {}, driver.get("value") or {}
    name, version, *settings = _settings(driver)
    return Machine(
        machine=f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB",
        gpu=facts.get("gpu", "") or name,
        gpus=facts.get("gpus", 0),
        gpu_memory=facts.get("memory", 0),
        gpu_settings=", ".join(settings),
        driver=version,
        cuda=_cuda_version(answers.get("version") or {}),
        torch=facts.get("version", ""),
        torch_cuda=facts.get("cuda", ""),
        torch_problem=_torch_problem(torch, facts),
        driver_problem=_driver_problem(driver, answers),
        python=platform.python_version(),
        kernel=f"{platform.system()} {platform.release()}",
        sandbox=sandbox(),
    )


def _settings(driver: dict[str, Any]) -> list[str]:
    """The first GPU's line of nvidia-smi: name, driver version, other settings."""
    line = (driver.get("properties") or {}).get("output", "").partition("\n")[0]
    return [field.strip() for field in line.split(",")] if line.count(",") > 1 else ["", ""]


def _cuda_version(answer: dict[str, Any]) -> str:
    number = answer.get("value")
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _torch_problem(sample: dict[str, Any], facts: dict[str, Any]) -> str:
    if not facts:
        return sample.get("text") or "torch could not be asked"
    if not facts["cuda"]:
        return f"torch {facts['version']} was built without CUDA: install a CUDA build of torch"
    return "" if facts["available"] else f"torch {facts['version']} sees no GPU (torch.cuda.is_available() is False)"


def _driver_problem(sample: dict[str, Any], answers: dict[str, Any]) -> str:
    if not answers:
        return sample.get("text") or "could not be asked"
    init = answers["init"]
    return f"cuInit answers {init['code']} {init['name']}" if init["code"] else ""


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found.group(1).strip() if found else "processor unknown"


def _memory_gib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# ---- the kernel ------------------------------------------------------------------------------------------------------


def sandbox() -> str:
    """The sandboxed kernel that this process runs on, with its signs; "" without any sign of one.

    A virtual machine is not a sandbox in this sense, because its kernel is Linux.
    """
    signs = sandbox_signs(_text(Path("/proc/version")), platform.version(), _kernel_log())
    if not Path("/proc/self/wchan").exists():
        signs.append("no /proc/PID/wchan")
    return f"{'gVisor' if signs != ['no /proc/PID/wchan'] else 'unknown'} ({'; '.join(signs)})" if signs else ""


def sandbox_signs(proc_version: str, uname_version: str, log: str) -> list[str]:
    """The signs of gVisor in these three texts."""
    named = re.compile("gvisor|runsc", re.IGNORECASE)
    signs = ["/proc/version names it"] if named.search(proc_version) else []
    signs += ["the kernel log names it"] if named.search(log) else []
    return signs + (["the version is the one it reports"] if uname_version.strip() == GVISOR_VERSION else [])


def _kernel_log() -> str:
    """The kernel's ring buffer by syslog(2), as dmesg reads it; "" if that is not allowed."""
    buffer = ctypes.create_string_buffer(1 << 18)
    try:
        count = ctypes.CDLL(None, use_errno=True).klogctl(_SYSLOG_READ_ALL, buffer, len(buffer))
    except AttributeError:  # not a Linux libc
        return ""
    return buffer.raw[: max(0, count)].decode("utf-8", "replace")


# ---- the code --------------------------------------------------------------------------------------------------------


@cache
def server_hash() -> str:
    """sha256 over the fingerprints of the server's source files; their names don't count.

    As they are at the first call: it parses all of them, which takes a second, and each title of a recording asks.
    """
    house = ROOT / "lab_support"
    files = [
        path for part in SERVER_PARTS for path in ([house / part] if part.endswith(".py") else _below(house / part))
    ]
    return hashlib.sha256("".join(sorted(map(fingerprint, files))).encode()).hexdigest()


def _below(folder: Path) -> list[Path]:
    return list(folder.rglob("*.py"))


def server_commit() -> str:
    """The repository's commit, with "+" if the server's files differ from it; "" outside a git repository."""
    commit = _git("rev-parse", "HEAD")
    parts = [f"lab_support/{part}" for part in SERVER_PARTS]
    return commit + ("+" if commit and _git("status", "--porcelain", "--", *parts) else "")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
