"""9. What does CUDA cost each process? Memory on both sides after a first operation with torch, and the time to it.

1, 2 and 4 processes at once, by spawn; one alone 5 times. Then bare contexts by the driver API, without torch. Samples:
`process` (one each), `together` (the GPU's memory before, with all up, after), `bare context`.
"""

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lab_support.experiments.cuda.cuda_driver import Driver
from lab_support.experiments.gpu_memory import GpuMemory, look, nvidia_smi_says, open_gpu_memory
from lab_support.experiments.program import attempt, emit, start

ROUNDS = (1, 1, 1, 1, 1, 2, 4)
BARE_REPEATS = 3
WAIT = 40.0
SETTLE_SECONDS = 3.0
MODULE = "lab_support.experiments.context_cost"


def main() -> int:
    options = start(__doc__ or "", rounds=len(ROUNDS))
    if options.case == "bare":
        return be_a_bare_context()
    memory = open_gpu_memory(options.device)
    deadline = time.monotonic() + options.seconds - 8
    for count in ROUNDS[: options.rounds]:
        if time.monotonic() > deadline:
            emit("not run", processes=count, reason="out of time")
            continue
        together(count, options.device, memory)
    for repeat in range(BARE_REPEATS if options.device == "cuda" else 0):
        bare_context(repeat, memory)
    return 0


def together(count: int, device: str, memory: GpuMemory) -> None:
    """Start `count` processes, each of which stays until all are up."""
    before = memory.used()
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(count)]
    asked_at = time.monotonic()
    processes = [context.Process(target=be_a_process, args=(theirs, device, asked_at)) for _, theirs in pairs]
    for process in processes:
        process.start()
    for ours, _ in pairs:
        said = ours.recv() if ours.poll(WAIT) else {"ok": False, "text": f"silent for {WAIT} s"}
        emit("process", processes=count, **said)
    emit("together", processes=count, before=before, gpu=look(memory), nvidia_smi=nvidia_smi_says())
    for ours, _ in pairs:
        ours.send("leave")
    for process in processes:
        process.join(10)
        process.kill()
        process.join()
    emit("all left", processes=count, before=before, settled=settle(memory, before))


def be_a_process(connection: Connection, device: str, asked_at: float) -> None:
    """Runs in the child: do a first operation, report its times and the host memory, then wait."""
    entered_at = time.monotonic()

    def work() -> dict[str, Any]:
        import torch

        imported_at = time.monotonic()
        assert (torch.zeros(1, device=device) + 1).item() == 1
        done_at = time.monotonic()
        return {
            "ms_to_entry": _ms(entered_at - asked_at),
            "ms_import_torch": _ms(imported_at - entered_at),
            "ms_first_operation": _ms(done_at - imported_at),
            "ms_in_all": _ms(done_at - asked_at),
            "host_memory": host_memory(),
        }

    connection.send(attempt(work))
    connection.recv()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def host_memory() -> dict[str, int]:
    """This process's bytes by /proc/self/smaps_rollup; empty if the kernel lacks it."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "uss": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def settle(memory: GpuMemory, free_at: int | None) -> dict[str, Any]:
    """Wait until the memory in use is back at its earlier value, for at most 3 s."""
    began = time.monotonic()
    while time.monotonic() - began < SETTLE_SECONDS:
        used = memory.used()
        if used is None or free_at is None or used <= free_at:
            break
        time.sleep(0.005)  # interval of measurement
    return {"used": memory.used(), "ms": _ms(time.monotonic() - began)}


# ---- without torch ---------------------------------------------------------------------------------------------------


def bare_context(repeat: int, memory: GpuMemory) -> None:
    before = memory.used()
    command = [sys.executable, "-m", MODULE, "--case", "bare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline().decode()
        emit("bare context", repeat=repeat, said=said, before=before, gpu=look(memory))
        process.kill()
    settle(memory, before)


def be_a_bare_context() -> int:
    """Initialise CUDA, make a context, report how long each took, and wait to be killed."""
    began = time.monotonic()
    driver = Driver()
    loaded_at = time.monotonic()
    init = driver.init()
    inited_at = time.monotonic()
    context = driver.create_context()
    times = [_ms(loaded_at - began), _ms(inited_at - loaded_at), _ms(time.monotonic() - inited_at)]
    print(f"load, cuInit ({init.code}), {context.call} ({context.code}) in ms: {times}", flush=True)
    sys.stdin.read()
    return 1


if __name__ == "__main__":
    sys.exit(main())
