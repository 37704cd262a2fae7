"""The client, the same for all peers of a run: vLLM's bench client in Rust if it is installed, else `lab load`.

Either way a closed loop, for the peers one of 16 clients, prompts of about 64 tokens, answers of 34 ± 88 % tokens,
greedy and streamed.
The Rust client costs a small machine least; `--install vllm-bench` brings it (vLLM's package has it, and it runs
without vLLM).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.kinds import BENCH, Peer

CLIENTS, PROMPT, ANSWER, SPREAD = 16, 64, 34, 0.88
RANKS = (50, 90, 99)
"""The percentiles of its latencies, in their order."""
LASTS_AT_MOST = 110.0
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop. answer: tokens, and `spread` of them more or fewer."""

    clients: int = CLIENTS
    answer: int = ANSWER
    spread: float = SPREAD


USUAL = Load()


@dataclass(frozen=True, slots=True)
class Client:
    """program: of vLLM's bench client, or None for `lab load`."""

    program: Path | None

    @property
    def name(self) -> str:
        return "vllm-rs bench serve" if self.program else "lab load"

    def ask(self, port: int, model: Path, peer: Peer, requests: int, seed: int, load: Load = USUAL) -> Figures:
        """Sends `requests` requests. Latencies are percentiles, in ms; the CPU seconds are the client's own."""
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            file = Path(folder) / "figures.json"
            command = (self._bench if self.program else self._lab_load)(port, model, peer, requests, seed, file, load)
            before = _cpu_of_children()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LASTS_AT_MOST,
                cwd=folder,
                env=os.environ | {"TMPDIR": folder},
            )
            cpu = _cpu_of_children() - before
            if not file.exists():
                said = (done.stdout + done.stderr)[-1500:]
                raise RuntimeError(f"{self.name} ended with code {done.returncode}: {said}")
            found = json.loads(file.read_text())
        figures = _of_bench(found) if self.program else _of_lab_load(found)
        if figures["failed"]:
            raise RuntimeError(f"{figures['failed']} of {requests} requests failed")
        return {**figures, "client_cpu_seconds": round(cpu, 2)}

    def _bench(self, port: int, model: Path, peer: Peer, requests: int, seed: int, file: Path, load: Load) -> list[str]:
        spread = json.dumps({"input": 0.0, "output": load.spread})
        choices = {
            "host": "127.0.0.1", "port": port, "model": model, "tokenizer": model, "dataset-name": "random",
            "random-input-len": PROMPT, "random-output-len": load.answer, "random-range-ratio": spread, "seed": seed,
            "num-prompts": requests, "max-concurrency": load.clients, "temperature": 0,
            "percentile-metrics": "ttft,itl", "metric-percentiles": "50,90,99", "result-dir": file.parent,
            "result-filename": file.name,
        }  # fmt: skip
        words = [word for name, value in choices.items() for word in (f"--{name}", str(value))]
        words += ["--extra-body", json.dumps(peer.fields)] if peer.fields else []
        flags = ["--ignore-eos", "--save-result", "--disable-tqdm", "--no-steady-state"]
        return [str(self.program), "bench", "serve", *words, *flags]

    def _lab_load(
        self, port: int, model: Path, peer: Peer, requests: int, seed: int, file: Path, load: Load
    ) -> list[str]:
        fewest, most = (round(load.answer * (1 + each * load.spread)) for each in (-1, 1))
        flags = {
            "clients": load.clients, "requests": requests, "prompt-words": PROMPT, "temperature": 0, "model": model,
            "output-tokens": f"{fewest}-{most}", "seed": seed,
            "duration": LASTS_AT_MOST, "json": file,
        }  # fmt: skip
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "lab_support", "load", f"http://127.0.0.1:{port}", "--ignore-eos", *words]


def client_in(environments: Path | None) -> Client:
    """vLLM's client if it is installed there."""
    program = environments / BENCH / "bin" / "vllm-rs" if environments else None
    return Client(program if program and program.exists() else None)


def _of_bench(found: dict[str, Any]) -> Figures:
    return {
        "completed": found["completed"],
        "failed": found["failed"],
        "tokens": found["total_output_tokens"],
        "seconds": round(found["duration"], 3),
        "tokens_per_second": round(found["output_throughput"], 1),
        "ttft_ms": [round(found[f"p{rank}_ttft_ms"], 2) for rank in RANKS],
        "inter_token_ms": [round(found[f"p{rank}_itl_ms"], 2) for rank in RANKS],
    }


def _of_lab_load(found: dict[str, Any]) -> Figures:
    return {
        "completed": found["completed"],
        "failed": sum(found["errors"].values()),
        "tokens": found["tokens"],
        "seconds": round(found["seconds"], 3),
        "tokens_per_second": round(found["tokens_per_second"], 1),
        "ttft_ms": [round(found["first_token"][f"p{rank}"] * 1000, 2) for rank in RANKS],
        "inter_token_ms": [round(found["inter_token"][f"p{rank}"] * 1000, 2) for rank in RANKS],
    }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
