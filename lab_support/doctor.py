"""Describes this machine: whether the server can run here, and what each notebook can't show live.

`lab doctor` prints it; `lab.start()` prints one line of it. It imports no package (torch's version is read from its
metadata) and starts no process, so it takes a fraction of a second and changes nothing. It repairs nothing, either:
each obstacle comes with a sentence that says what to do. Anything that can't be examined counts as missing.
"""

import argparse
import ctypes
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from lab_support.config import MODEL_IN_THE_BOX, ConfigError, ServerConfig
from lab_support.control_groups import GroupLimits, group_limits
from lab_support.instruments.foreign_text import visible
from lab_support.limits import shortfalls
from lab_support.mounts import mount_of
from lab_support.plural import counted
from lab_support.server_packages import SERVER_PACKAGES

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
_GIB = 1 << 30
_LEAST_MEMORY = 1 * _GIB
_LEAST_TEMPORARY = 64 << 20
_KCMP = {"x86_64": 312, "aarch64": 272}
_SOFT, _HARD = 0, 1


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts about a machine. Bytes and counts; None: does not exist here; "": the package is not installed.

    cores, memory: that this process may use, by affinity and control groups. kernel_views: whether each way to look
    into processes is open to this user, by name. descriptors: the hard limit of a process.
    shortfalls: reasons for which a server would refuse to start, in its own words.
    """

    system: str
    kernel: str
    python: str
    cores: int
    memory: int
    torch: str
    gpus: int
    gpu_driver: str
    missing_packages: tuple[str, ...]
    kernel_views: dict[str, bool]
    strace: str
    descriptors: int | None
    processes: int | None
    pids_max: int | None
    shortfalls: tuple[str, ...]
    temporary_folder: str
    temporary_kind: str
    temporary_free: int
    temporary_writable: bool
    jupyterlab: str
    widgets: str
    lab_widgets: str
    matplotlib: str
    vllm: str
    ray: str


def examine() -> Machine:
    """Examine this machine, from this process."""
    folder, groups = _temporary_folder(), group_limits()
    driver = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    return Machine(
        system=platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        cores=_usable_cores(groups),
        memory=_usable_memory(groups),
        torch=_version("torch"),
        gpus=len(driver) or len(list(Path("/dev").glob("nvidia[0-9]*"))),
        gpu_driver=_first_line("/proc/driver/nvidia/version"),
        missing_packages=tuple(name for name in SERVER_PACKAGES if util.find_spec(name) is None),
        kernel_views=_kernel_views(),
        strace=shutil.which("strace") or "",
        descriptors=_limit(resource.RLIMIT_NOFILE, which=_HARD),
        processes=_limit(resource.RLIMIT_NPROC, which=_SOFT),
        pids_max=groups.processes,
        shortfalls=_shortfalls(),
        temporary_folder=folder,
        temporary_kind=_file_system(folder),
        temporary_free=shutil.disk_usage(folder).free if folder else 0,
        temporary_writable=bool(folder) and os.access(folder, os.W_OK),
        jupyterlab=_version("jupyterlab"),
        widgets=_version("ipywidgets"),
        lab_widgets=_version("jupyterlab_widgets"),
        matplotlib=_version("matplotlib"),
        vllm=_version("vllm"),
        ray=_version("ray"),
    )


# ---- looking ---------------------------------------------------------------------------------------------------------


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _first_line(path: str) -> str:
    return _text(path).partition("\n")[0].strip()


def _limit(kind: int, *, which: int) -> int | None:
    found = resource.getrlimit(kind)[which]
    return None if found == resource.RLIM_INFINITY else found


def _shortfalls() -> tuple[str, ...]:
    try:
        return tuple(shortfalls(ServerConfig()))
    except ConfigError as error:  # environment variables count, too
        return (str(error),)


def _usable_cores(groups: GroupLimits) -> int:
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(mine, groups.cores or mine))


def _usable_memory(groups: GroupLimits) -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, groups.memory or physical)


def _temporary_folder() -> str:
    """The folder that programs use here; "" if none can be written."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return ""


def _file_system(folder: str) -> str:
    """The type of the file system that holds `folder`, such as ext4 or tmpfs; "" if the kernel does not tell."""
    mount = mount_of(folder) if folder else None
    return visible(mount.kind) if mount else ""


def _kernel_views() -> dict[str, bool]:
    return {
        "/proc": os.access("/proc/self/stat", os.R_OK),
        "proportional memory (smaps_rollup)": _works(lambda: Path("/proc/self/smaps_rollup").read_bytes()),
        "context-switch counters": "voluntary_ctxt" in _text("/proc/self/status"),
        "kcmp": _kcmp_works(),
        "memfd": _works(lambda: os.close(os.memfd_create("doctor"))),
        "pidfd": _works(lambda: os.close(os.pidfd_open(os.getpid()))),
        "ptrace of own processes": _first_line("/proc/sys/kernel/yama/ptrace_scope") in ("", "0", "1"),
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, AttributeError):  # refused by the kernel, or this Python was built without it
        return False
    return True


def _kcmp_works() -> bool:
    """Compare descriptor 1 of this process with itself, because containers often forbid kcmp."""
    number = _KCMP.get(platform.machine())
    if number is None or sys.platform != "linux":
        return False
    me, kind_file = os.getpid(), 0
    return ctypes.CDLL(None, use_errno=True).syscall(number, me, me, kind_file, 1, 1) == 0


# ---- judging ---------------------------------------------------------------------------------------------------------


def obstacles(machine: Machine) -> list[str]:
    """Reasons why the server can't run here, each with what to do; empty if it can."""
    found = []
    if machine.system != "Linux":
        found.append(f"got {machine.system}, expected Linux: use Linux, WSL2 on Windows, or a container")
    if machine.system == "Linux" and not machine.kernel_views["/proc"]:
        found.append("/proc can't be read, expected the kernel's: mount it there (`mount -t proc proc /proc`)")
    if machine.missing_packages:
        found.append(f"not installed: {', '.join(machine.missing_packages)}: run `pip install -r requirements.txt`")
    if not (MODEL_IN_THE_BOX / "config.json").exists():
        found.append("data/model has no config.json: get the whole repository, or pass --model FOLDER to `lab serve`")
    if machine.memory < _LEAST_MEMORY:
        found.append(f"got {_size(machine.memory)} of memory, expected 1 GB: give the machine or container more")
    if not machine.temporary_folder:
        found.append("got no temporary folder that is writable, expected /tmp or another one: set TMPDIR")
    elif not machine.temporary_writable or machine.temporary_free < _LEAST_TEMPORARY:
        found.append(
            f"the temporary folder has {_size(machine.temporary_free)} free or can't be written, expected 64 MB: "
            "make room or set TMPDIR to another folder"
        )
    return [*found, *machine.shortfalls]


@dataclass(frozen=True, slots=True)
class _Need:
    """Something that some notebooks need: whether it is here, and the consequence without it, by notebook number."""

    met: Callable[[Machine], bool]
    name: str
    without: dict[str, str]


def _view(name: str) -> Callable[[Machine], bool]:
    return lambda machine: machine.kernel_views[name]


_NEEDS = (
    _Need(
        _view("proportional memory (smaps_rollup)"),
        "readable smaps_rollup",
        {
            "00": "memory is shown as resident size alone",
            "01": "copy-on-write is shown from a recording",
            "02": "memory in comparison with fork is shown from a recording",
        },
    ),
    _Need(
        _view("kcmp"),
        "kcmp",
        {"03": "identity of objects is shown by inode and by a flag that changes on both sides"},
    ),
    _Need(
        lambda machine: bool(machine.strace) and machine.kernel_views["ptrace of own processes"],
        "strace (apt-get install strace)",
        {
            "03": "the system calls are shown from a recording",
            "04": "one exhibit is shown from a recording",
            "10": "the trace of vLLM is shown from a recording",
        },
    ),
    _Need(
        _view("context-switch counters"),
        "context-switch counters",
        {"04": "wake-ups are shown from a recording"},
    ),
    _Need(
        lambda machine: machine.cores >= 2,
        "second core",
        {"04": "shares differ from those on a server", "08": "more processes add no throughput"},
    ),
    _Need(
        lambda machine: machine.gpus > 0,
        "GPU",
        {
            "05": "results about CUDA are shown from recordings",
            "06": "results about CUDA are shown from recordings",
        },
    ),
    _Need(lambda machine: bool(machine.vllm), "vLLM", {"10": "its processes are shown from a recording"}),
    _Need(lambda machine: bool(machine.ray), "Ray", {"11": "the cluster is shown from a recording"}),
)


def losses(machine: Machine, number: str) -> list[str]:
    """Each lack of this machine, and what it means in notebook `number` ("00" to "11"); empty if all is live."""
    return [
        f"no {need.name}: {need.without[number]}" for need in _NEEDS if number in need.without and not need.met(machine)
    ]


# ---- saying ----------------------------------------------------------------------------------------------------------


def one_line(machine: Machine) -> str:
    """The machine in one line, with which each notebook begins."""
    gpu = f"{machine.gpus} GPU" if machine.gpus else "no GPU"
    parts = [
        f"{machine.system} {'.'.join(machine.kernel.split('.')[:2])}",
        counted(machine.cores, "core"),
        _size(machine.memory),
        f"Python {machine.python}",
        f"torch {machine.torch or 'not installed'}",
        gpu,
    ]
    return " · ".join(parts)


def describe(machine: Machine) -> str:
    """Several lines: the machine, the ways to look into it, each notebook's losses, and obstacles for the server."""
    lines = [
        one_line(machine),
        "",
        *(f"  {name:36}{value}" for name, value in _details(machine)),
        "",
        *_notebook_lines(machine),
        "",
        *(f"  ✘ {obstacle}" for obstacle in obstacles(machine)),
    ]
    lines.append("The server can't run here." if obstacles(machine) else "The server can run here: `lab serve`.")
    return "\n".join(lines)


def _details(machine: Machine) -> list[tuple[str, str]]:
    views = [(name, "yes" if there else "no") for name, there in machine.kernel_views.items()]
    return [
        ("kernel", f"{machine.system} {machine.kernel}"),
        ("GPU", f"{machine.gpus} ({machine.gpu_driver or 'driver not read'})" if machine.gpus else "none found"),
        *views,
        ("strace", "found" if machine.strace else "not found"),
        ("open descriptors per process", str(machine.descriptors or "no limit")),
        ("processes of this user", str(machine.processes or "no limit")),
        ("processes of this control group", str(machine.pids_max or "no limit")),
        ("temporary folder", f"{machine.temporary_kind or 'unknown kind'}, {_size(machine.temporary_free)} free"),
        ("JupyterLab", machine.jupyterlab or "not installed"),
        ("widgets", _widgets(machine)),
        ("matplotlib", machine.matplotlib or "not installed"),
    ]


def _widgets(machine: Machine) -> str:
    if not machine.widgets or not machine.lab_widgets:
        return "not installed"
    # ipywidgets 8 needs jupyterlab_widgets 3: their major versions differ by five.
    fit = int(machine.widgets.partition(".")[0]) - int(machine.lab_widgets.partition(".")[0]) == 5
    return f"{machine.widgets}, with JupyterLab's part {machine.lab_widgets}" + ("" if fit else ": they don't fit")


def _notebook_lines(machine: Machine) -> list[str]:
    there = {path.name[:2]: path.stem for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    lines = [f"  {name:36}{'; '.join(losses(machine, number)) or 'all live'}" for number, name in there.items()]
    planned = [number for number in (f"{index:02}" for index in range(12)) if number not in there]
    return ["Notebooks:", *lines, *([f"  {'planned':36}{', '.join(planned)}"] if planned else [])]


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GB" if count >= _GIB else f"{count / (1 << 20):.0f} MB"


def run_doctor_command(arguments: argparse.Namespace) -> int:
    """`lab doctor`: 0 if the server can run here, else 1."""
    machine = examine()
    print(describe(machine))
    return 1 if obstacles(machine) else 0
