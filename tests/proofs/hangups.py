"""5,000 requests of which a fifth hang up early: afterwards nothing is held, and no abort took more than two steps."""

import json
import re
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from lab_support.instruments import proc
from tests.proofs import Row
from tests.running_server import RunningServer, running_server

REQUESTS = 5000
BATCH = 1000


def load(server: RunningServer, count: int, seed: int) -> dict:
    """`lab load` in a process of its own; its report."""
    command = [
        sys.executable, "-m", "lab_support", "load", server.url, "--requests", str(count), "--clients", "32",
        "--hangup-share", "0.2", "--output-tokens", "4-64", "--ignore-eos", "--duration", "3000", "--seed", str(seed),
        "--prompt-words", "5-100",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def metric(text: str, name: str) -> float:
    """Sum over all labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def settled_metrics(server: RunningServer) -> str:
    """`/metrics` once no request runs: the engine core's last figures are at most a few publications away."""
    for _ in range(100):
        text = requests.get(server.url + "/metrics", timeout=10).text
        if metric(text, "vllm:num_requests_running") == 0 == metric(text, "vllm:num_requests_waiting"):
            return text
        select.select([], [], [], 0.1)
    return text


def held(server: RunningServer) -> tuple[int, float]:
    """Descriptors, and proportional memory in MB, of the launcher, the API servers and the engine cores.

    Once the number of descriptors has been the same for a second: the last connections are still being closed.
    """
    pids = [pid for name, pid in server.pids.items() if name != "resource-tracker"]
    looks: list[int] = []
    while len(looks) < 100 and (len(looks) < 10 or len(set(looks[-10:])) > 1):
        looks.append(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids))
        select.select([], [], [], 0.1)
    return looks[-1], sum(memory.pss for pid in pids if (memory := proc.read_memory(pid))) / 1e6


def prove() -> list[Row]:
    with running_server() as server, tempfile.TemporaryDirectory():
        after = []
        hung_up = failed = 0
        for batch in range(REQUESTS // BATCH):
            report = load(server, BATCH, batch)
            hung_up += report["hung_up"]
            failed += sum(report["errors"].values())
            text = settled_metrics(server)
            after.append(held(server))
            print(f"  {(batch + 1) * BATCH} requests: {after[-1]}", file=sys.stderr, flush=True)
        free, total = metric(text, "lab_engine_free_blocks"), metric(text, "lab_engine_total_blocks")
        steps, aborts = metric(text, "lab_engine_abort_steps_max"), metric(text, "lab_engine_aborts_total")
    (_, (then, megabytes_then), *_, (now, megabytes_now)) = after
    growth = megabytes_now / megabytes_then - 1
    told = f"{free:.0f} of {total:.0f} free; {hung_up} hung up, {failed} failed"
    memory = f"{megabytes_then:.0f} → {megabytes_now:.0f} MB ({growth:+.1%})"
    return [
        Row("5,000 requests, a fifth hang up: every block free", told, free == total and not failed),
        Row("no abort took more than two steps", f"at most {steps:.0f} in {aborts:.0f}", steps <= 2 and aborts > 0),
        Row("descriptors after the last 1,000 as after the second 1,000", f"{then} → {now}", now <= then),
        Row("memory after the last 1,000 as after the second 1,000, within 2 %", memory, growth <= 0.02),
    ]


if __name__ == "__main__":
    for row in prove():
        print(row)
