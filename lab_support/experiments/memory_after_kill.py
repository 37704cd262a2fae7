"""10. kill -9: how long until the GPU's memory is free again, and does anything stay behind?

A server on the GPU, 5 times; each time a different process of it is killed (with --no-restart-api-servers, so that the
server also ends with an API server). Then 45 bare processes that hold memory by the driver API, several at a time.
Samples: `server`, `server killed`, `bare round`, `in all`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab_support.experiments.cuda.cuda_driver import Driver
from lab_support.experiments.gpu_memory import MIB, GpuMemory, look, open_gpu_memory
from lab_support.experiments.program import emit, start
from lab_support.experiments.served import server

VICTIMS = ("launcher", "engine-0", "api-0", "launcher", "engine-0")
HELD_BYTES = 1024 * MIB
AT_ONCE = 5
TOLERANCE = 2 * MIB
WAIT = 12.0
MODULE = "lab_support.experiments.memory_after_kill"


def main() -> int:
    options = start(__doc__ or "", servers=len(VICTIMS), bare=45)
    if options.case == "holder":
        return hold(options.device)
    deadline = time.monotonic() + options.seconds
    memory = open_gpu_memory(options.device)
    at_first = memory.used()
    # The bare ones first: they take only seconds, so a short budget cuts servers, not them.
    rounds = -(-options.bare // AT_ONCE)
    done = [bare_round(number, min(AT_ONCE, options.bare - number * AT_ONCE), options.device, memory)
            for number in range(rounds) if time.monotonic() < deadline - WAIT]  # fmt: skip
    servers = [kill_a_server(victim, options.device, memory, deadline) for victim in VICTIMS[: options.servers]]
    emit("in all", bare_killed=sum(done), servers_killed=sum(servers), before=at_first, gpu=look(memory))
    return 0


# ---- the server ------------------------------------------------------------------------------------------------------


def kill_a_server(victim: str, device: str, memory: GpuMemory, deadline: float) -> bool:
    """Start a server and kill one of its processes. Returns whether there was time for it."""
    seconds = deadline - time.monotonic() - WAIT
    if seconds < WAIT:
        emit("not run", victim=victim, reason="out of time")
        return False
    before = memory.used()
    with server("--device", device, "--no-restart-api-servers", seconds=seconds) as served:
        emit("server", victim=victim, before=before, gpu=look(memory), roles=sorted(served.pids),
             seconds_to_ready=served.seconds_to_ready, details=served.details)  # fmt: skip
        pids = {pid: _start_time(pid) for pid in served.pids.values()}
        began = time.monotonic()
        os.kill(served.pids[victim], signal.SIGKILL)
        emit("server killed", victim=victim, **watch(pids, served.process, memory, before, began))
    return True


# ---- bare processes --------------------------------------------------------------------------------------------------


def bare_round(number: int, count: int, device: str, memory: GpuMemory) -> int:
    """Start `count` holders, kill them when all hold memory; returns how many were killed."""
    before = memory.used()
    command = [sys.executable, "-m", MODULE, "--case", "holder", "--device", device]
    holders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    said = [((holder.stdout and holder.stdout.readline()) or "").strip() for holder in holders]
    holding = look(memory)
    pids = {holder.pid: _start_time(holder.pid) for holder in holders}
    began = time.monotonic()
    for holder in holders:
        holder.kill()
    seen = watch(pids, None, memory, before, began)
    for holder in holders:
        holder.communicate()
    emit("bare round", number=number, count=count, said=said, before=before, holding=holding, **seen)
    return said.count("holding")


def hold(device: str) -> int:
    """Runs in a holder: take memory, report, wait to be killed."""
    kept = bytearray(MIB)
    if device == "cuda":
        driver = Driver()
        answers = [driver.init(), driver.create_context(), driver.allocate(HELD_BYTES)]
        if not all(answer.ok for answer in answers):
            print("; ".join(f"{answer.call} {answer.code} {answer.name}" for answer in answers), flush=True)
            return 1
    print("holding", flush=True)
    sys.stdin.read()
    return len(kept)


# ---- watching --------------------------------------------------------------------------------------------------------


def watch(
    pids: dict[int, str], child: "subprocess.Popen[bytes] | None", memory: GpuMemory, before: int | None, began: float
) -> dict[str, Any]:
    """Watch until every process has ended and the memory in use is back at `before`, for at most `WAIT` seconds.

    Milliseconds since `began`, None for events that did not happen; `trace` is the memory in use at each change.
    """
    trace: list[dict[str, Any]] = []
    gone_after = free_after = None
    told = before is not None
    while time.monotonic() - began < WAIT and (gone_after is None or (told and free_after is None)):
        used = memory.used()
        now = round((time.monotonic() - began) * 1000, 2)
        if not trace or trace[-1]["used"] != used:
            trace.append({"ms": now, "used": used})
        if free_after is None and used is not None and before is not None and used <= before + TOLERANCE:
            free_after = now
        if child is not None:
            child.poll()  # reaps it
        if gone_after is None and not any(_runs(pid, started) for pid, started in pids.items()):
            gone_after = now
        time.sleep(0.001)  # interval of measurement
    left = [pid for pid, started in pids.items() if _runs(pid, started)]
    return {"ms_until_gone": gone_after, "ms_until_free": free_after, "left": len(left), "trace": trace}


def _start_time(pid: int) -> str:
    """With the pid it identifies one process uniquely; "" if the process is gone."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def _runs(pid: int, started: str) -> bool:
    """A zombie does not run: its memory is gone."""
    fields = _stat(pid)
    return bool(fields) and fields[19] == started and fields[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
