"""How fast and how big, as ratios within one run: `python -m tests.proofs.ratios`.

- start: from `lab serve` to the first token that a client sees, over `python -c "import torch"`, alternating.
- an API server by itself: the CPU time of its start, over that of `import torch`, and its memory.
- throughput: tokens/s through HTTP over transformers' own `generate` in process, on the same prompts and lengths.
- an API server's CPU time per streamed token under that load.
- everybody's proportional memory after it, with prefix caching, which by then has filled the KV cache.

transformers gets float32, SDPA, its cache, as many threads as there are cores, batches of 16 sorted by length, and
only the tokens that were asked for count. The server runs as it comes, but without prefix caching, because the same
prompts are asked in each round and transformers keeps nothing of them. The load generator takes part of the same cores;
transformers needs none.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.instruments import proc
from tests.proofs import Row
from tests.running_server import RunningServer, launched, running_server

CLIENTS = 16
REQUESTS = 320
LENGTHS = (4, 64)  # tokens of an answer
START_ROUNDS = 7
THROUGHPUT_ROUNDS = 5


# ---- start -----------------------------------------------------------------------------------------------------------


def seconds_to_import_torch() -> float:
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.monotonic() - begun


def seconds_to_first_token() -> float:
    """From starting the command until the first event of a streamed answer has come."""
    begun = time.monotonic()
    with launched(api_server_count=2) as (process, ready, log, _):
        line = ready.readline()
        assert line, log.read_text()
        body = {"prompt": "Once upon a time", "max_tokens": 4, "stream": True}
        with requests.post(json.loads(line)["url"] + "/v1/completions", json=body, stream=True, timeout=30) as answer:
            next(answer.iter_lines())
        seconds = time.monotonic() - begun
        process.terminate()
        process.wait()
    return seconds


def start_row(rounds: int) -> Row:
    pairs = [(seconds_to_first_token(), seconds_to_import_torch()) for _ in range(rounds)]
    ratio = statistics.median(server for server, _ in pairs) / statistics.median(bare for _, bare in pairs)
    spread = ", ".join(f"{server:.2f}/{bare:.2f}" for server, bare in pairs)
    return Row("start to first token over `import torch`: ≤ 1.2", f"{ratio:.2f} (s/s: {spread})", ratio <= 1.2)


# ---- what an API server's start costs --------------------------------------------------------------------------------


def cpu_seconds_to_import_torch() -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def api_server_row(rounds: int) -> Row:
    """CPU time and memory of one API server that has just become ready, with the CPU time of `import torch`."""
    shares, seconds, memory = [], [], []
    for _ in range(rounds):
        torch = cpu_seconds_to_import_torch()
        with running_server(api_server_count=1, load_format="dummy") as server:
            seconds.append(cpu_seconds(api_servers(server)))
            memory.append(sum(found.rss for found in map(proc.read_memory, api_servers(server)) if found) / 1e6)
            shares.append(seconds[-1] / torch)
    share = statistics.median(shares)
    told = f"{share:.2f}; {statistics.median(seconds):.2f} s of CPU time, {statistics.median(memory):.0f} MB resident"
    return Row("CPU time of an API server's start over that of `import torch`: ≤ 0.25", told, share <= 0.25)


# ---- throughput ------------------------------------------------------------------------------------------------------


def questions(folder: Path) -> Path:
    """Prompts of mixed lengths with outputs of 4 to 64 tokens, the same for both sides."""
    import random

    chance = random.Random(7)
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    prompts = [line["prompt"] for line in lines if "prompt" in line and len(line["prompt"]) < 600]
    asked = [{"prompt": chance.choice(prompts), "max_tokens": chance.randint(*LENGTHS)} for _ in range(REQUESTS)]
    path = Path(tempfile.mkstemp(suffix=".jsonl")[1])
    path.write_text("\n".join(map(json.dumps, asked)))
    return path


GENERATE = """
import json, os, sys, time, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, path = sys.argv[1:]
torch.set_num_threads(os.cpu_count())
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
asked = sorted(map(json.loads, open(path)), key=lambda each: (each["max_tokens"], len(each["prompt"])))
batches = [asked[i : i + 16] for i in range(0, len(asked), 16)]
@torch.inference_mode()
def generate(batch):
    inputs = tokenizer([each["prompt"] for each in batch], return_tensors="pt", padding=True)
    most = max(each["max_tokens"] for each in batch)
    model.generate(**{k: inputs[k] for k in ("input_ids", "attention_mask")}, do_sample=False, max_new_tokens=most,
                   min_new_tokens=most, use_cache=True, pad_token_id=tokenizer.pad_token_id)
    return sum(each["max_tokens"] for each in batch)
generate(batches[0])
print("ready", flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    tokens = sum(map(generate, batches))
    print(tokens / (time.perf_counter() - begun), flush=True)
"""


class Transformers:
    """transformers' `generate` in a process of its own; asked for one round at a time. A context manager."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-W", "ignore", "-c", GENERATE, str(MODEL_IN_THE_BOX), str(path)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> "Transformers":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def tokens_per_second(self) -> float:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def load(server: RunningServer, *words: str, requests: int = REQUESTS) -> dict:
    """`lab load` in a process of its own, with these flags for what to ask; its report."""
    command = [
        sys.executable, "-m", "lab_support", "load", server.url, "--clients", str(CLIENTS), "--requests", str(requests),
        "--ignore-eos", "--temperature", "0", "--duration", "600", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def cpu_by_parts(server: RunningServer) -> tuple[float, float]:
    """An API server's CPU time in µs for a request (of 5 words), and for each further token of its answer."""
    few, many = 4, 64
    spent = {}
    for tokens in (few, many):
        before = cpu_seconds(api_servers(server))
        load(server, "--prompt-words", "5", "--output-tokens", str(tokens), requests=400)
        spent[tokens] = (cpu_seconds(api_servers(server)) - before) / 400 * 1e6
    per_token = (spent[many] - spent[few]) / (many - few)
    return spent[few] - few * per_token, per_token


def api_servers(server: RunningServer) -> list[int]:
    return [pid for name, pid in server.pids.items() if name.startswith("api-")]


def cpu_seconds(pids: list[int]) -> float:
    return sum(process.cpu_seconds for process in map(proc.read_process, pids) if process)


def seconds_of_python() -> float:
    """Ten million additions in a process of their own: how fast this machine is just now, to read the figure by."""
    loop = "for i in range(10_000_000): n += i"
    program = f"import time\nbegun, n = time.perf_counter(), 0\n{loop}\nprint(time.perf_counter() - begun)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def throughput_rows(rounds: int) -> list[Row]:
    path = questions(MODEL_IN_THE_BOX.parent / "prompts")
    server_rates, generate_rates, costs, speeds = [], [], [], []
    caching = {"enable_prefix_caching": False}
    with running_server(api_server_count=2, **caching) as server, Transformers(path) as transformers:
        asked = ("--prompts", str(path))
        load(server, *asked)
        for _ in range(rounds):
            before = cpu_seconds(api_servers(server))
            report = load(server, *asked)
            costs.append((cpu_seconds(api_servers(server)) - before) / report["tokens"] * 1e6)
            server_rates.append(report["tokens_per_second"])
            generate_rates.append(transformers.tokens_per_second())
            speeds.append(seconds_of_python())
        request, token = cpu_by_parts(server)
    memory = memory_rows(path)
    path.unlink()
    ratio = statistics.median(server_rates) / statistics.median(generate_rates)
    pairs = ", ".join(f"{ours:.0f}/{theirs:.0f}" for ours, theirs in zip(server_rates, generate_rates, strict=True))
    cost = statistics.median(costs)
    each = ", ".join(f"{one:.0f}" for one in costs)
    told = (
        f"{cost:.0f} µs with its requests' share ({each}); by itself {token:.0f} µs, a request {request:.0f} µs; "
        f"10 million additions in Python took {statistics.median(speeds):.2f} s meanwhile"
    )
    return [
        Row("tokens/s through HTTP over transformers' generate: ≥ 1.2", f"{ratio:.2f} ({pairs})", ratio >= 1.2),
        Row("API server's CPU per streamed token: ≤ 40 µs", told, cost <= 40),
        *memory,
    ]


def memory_rows(path: Path) -> list[Row]:
    """The server as it comes, after the same load and after 400 requests of which no two are alike."""
    with running_server(api_server_count=2) as server:
        load(server, "--prompts", str(path))
        load(server, "--prompt-words", "40", "--output-tokens", "32", requests=400)
        memory = {name: proc.read_memory(pid) for name, pid in server.pids.items()}
    pss = {name: each.pss / 1e6 for name, each in memory.items() if each}
    parts = ", ".join(f"{name} {size:.0f}" for name, size in pss.items())
    everything, largest = sum(pss.values()), max(size for name, size in pss.items() if name.startswith("api-"))
    return [
        Row("proportional memory of everything: ≤ 420 MB", f"{everything:.0f} MB ({parts})", everything <= 420),
        Row("proportional memory of one API server: ≤ 45 MB", f"{largest:.0f} MB", largest <= 45),
    ]


def prove(start_rounds: int = START_ROUNDS, throughput_rounds: int = THROUGHPUT_ROUNDS) -> list[Row]:
    return [start_row(start_rounds), api_server_row(start_rounds), *throughput_rows(throughput_rounds)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start-rounds", type=int, default=START_ROUNDS)
    parser.add_argument("--throughput-rounds", type=int, default=THROUGHPUT_ROUNDS)
    given = parser.parse_args()
    for row in prove(given.start_rounds, given.throughput_rounds):
        print(f"{'met' if row.met else 'NOT MET'}: {row.asked}: {row.measured}")
