"""6. A forked child of a CUDA parent that never touches CUDA: what has it inherited, and whom does it harm?

Samples: `parent`, `idle child` (its descriptors of /dev/nvidia*, its mappings, what NVML and nvidia-smi count while
it lives), `child left` (at once, or through exit handlers), `parent afterwards`, and `parent killed`: is its memory
free while the idle child still lives, and when that is gone?
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab_support.experiments.child import in_forked_child
from lab_support.experiments.gpu_memory import MIB, GpuMemory, look, nvidia_smi_says, open_gpu_memory
from lab_support.experiments.program import attempt, emit, exit_code, open_descriptors, run_cases, start

HELD_BYTES = 512 * MIB
WATCH_SECONDS = 4.0
MODULE = "lab_support.experiments.idle_forked_child"


def main() -> int:
    options = start(__doc__ or "")
    if options.case == "parent to be killed":
        return parent_to_be_killed(options.device)
    if options.case:
        return harmless(options.case, options.device)
    cases: dict[str, dict[str, str]] = {"leaves at once": {}, "leaves through exit handlers": {}}
    ended = run_cases(MODULE, cases, options, options.seconds / 2)
    kill_the_parent(options.device)
    return exit_code(ended)


# ---- is the parent unharmed? -----------------------------------------------------------------------------------------


def harmless(case: str, device: str) -> int:
    import torch

    memory = open_gpu_memory(device)
    emit("before", gpu=look(memory))
    tensor = torch.ones(HELD_BYTES // 4, device=device)
    emit("parent", **attempt(lambda: tensor[:1024].sum().item()), gpu=look(memory), **inherited("self"))
    with_an_idle_child(memory)
    outcome = in_forked_child(lambda: "touched nothing", leave_normally=case != "leaves at once")
    emit("child left", **outcome)
    emit("parent afterwards", **attempt(lambda: tensor.add_(1).sum().item() / tensor.numel()), gpu=look(memory))
    return 0


def with_an_idle_child(memory: GpuMemory) -> None:
    """Fork a child that waits for EOF on a pipe, examine it from the parent, and let it end."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    emit("idle child", **inherited(pid), gpu=look(memory), nvidia_smi=nvidia_smi_says())
    os.close(write_end)
    os.waitpid(pid, 0)


def inherited(pid: int | str) -> dict[str, Any]:
    """A process's NVIDIA device files by path, its NVIDIA lines in /proc/PID/maps, and its threads."""
    folder = Path("/proc") / str(pid)
    opened = sorted(target for target in open_descriptors(pid).values() if "nvidia" in target)
    maps = (folder / "maps").read_text().splitlines() if (folder / "maps").exists() else []
    return {
        "device_files": opened,
        "device_mappings": sum("/dev/nvidia" in line for line in maps),
        "threads": len(os.listdir(folder / "task")) if (folder / "task").is_dir() else None,
    }


# ---- who keeps the memory? -------------------------------------------------------------------------------------------


def parent_to_be_killed(device: str) -> int:
    """Take memory on the device, fork an idle child, print its pid, and wait to be killed."""
    import torch

    tensor = torch.ones(HELD_BYTES // 4, device=device)
    assert tensor[0].item() == 1
    pid = os.fork()
    if pid == 0:
        os.read(0, 1)
        os._exit(0)
    print(pid, flush=True)
    os.read(0, 1)
    return 1


def kill_the_parent(device: str) -> None:
    memory = open_gpu_memory(device)
    before = memory.used()
    command = [sys.executable, "-m", MODULE, "--case", "parent to be killed", "--device", device]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        line = parent.stdout.readline()
        emit("parent holds", before=before, child_forked=line.strip().isdigit(), gpu=look(memory))
        parent.kill()
        parent.wait()
        emit("parent killed", child_lives=_lives(line), watched=watch(memory, before, WATCH_SECONDS))
        parent.stdin.close()  # the child's read ends
        emit("child gone as well", watched=watch(memory, before, WATCH_SECONDS))


def _lives(line: bytes) -> bool:
    return line.strip().isdigit() and Path(f"/proc/{int(line)}/stat").exists()


def watch(memory: GpuMemory, free_at: int | None, seconds: float) -> list[dict[str, Any]]:
    """Milliseconds and bytes in use at each change, until at most `free_at` bytes are in use or `seconds` are over."""
    began = time.monotonic()
    seen: list[dict[str, Any]] = []
    while time.monotonic() - began < seconds:
        used = memory.used()
        if not seen or seen[-1]["used"] != used:
            seen.append({"ms": round((time.monotonic() - began) * 1000, 2), "used": used})
        if used is None or free_at is None or used <= free_at + 2 * MIB:
            break
        time.sleep(0.001)  # interval of measurement
    return seen


if __name__ == "__main__":
    sys.exit(main())
