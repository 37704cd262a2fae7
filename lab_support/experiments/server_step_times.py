"""11. The real server on the GPU: how long is a decode step, and when is one front end too few?

Step times over batch and context, for the model in the box and for random weights of common sizes; tokens a second and
TTFT over 1, 2, 4, 8 API servers. A step's time is the engine core's own clock between two looks at /metrics while
exactly the whole batch decodes; the clients' inter-token latency is recorded, too. Samples: `server`, `point` (raw
looks and the load's report), `front ends`, `not run`.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab_support.experiments.model_sizes import BOX, SIZES, write_folder
from lab_support.experiments.program import attempt, emit, start
from lab_support.experiments.served import Served, ServerNotReady, metrics, server

BATCHES = (1, 8, 64)
CONTEXTS = (512, 4096)
OUTPUT_TOKENS = {"box": 384, "0.1B": 192, "1B": 160, "8B": 96, "tiny": 48}
API_SERVERS = (1, 2, 4, 8)
GENERATORS = 4
LOOK_SECONDS = 0.1
LOOKS_AFTER = 5
"""The server publishes its counts up to 0.2 s late."""
LEAST_SECONDS = 12.0
START_SECONDS = 30.0
SEEN = (
    "lab_engine_steps_total", "lab_engine_prompt_tokens_total", "lab_engine_generation_tokens_total",
    "vllm:num_requests_running", "vllm:num_requests_waiting", 'lab_engine_stage_seconds_total{stage="run"}',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of measurement; `deadline` on time.monotonic()."""

    device: str
    folder: Path
    deadline: float
    batches: tuple[int, ...]
    contexts: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return self.deadline - time.monotonic()


def main() -> int:
    options = start(__doc__ or "", models="8B,1B,box", front_ends="1,2,4,8", small=0)
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        plan = Plan(
            options.device,
            Path(folder),
            time.monotonic() + options.seconds - 5,
            (1, 2) if options.small else BATCHES,
            (32,) if options.small else CONTEXTS,
        )
        outcomes = [attempt(partial(sweep, model, plan)) for model in options.models.split(",")]
        outcomes.append(attempt(lambda: front_ends(plan, [int(count) for count in options.front_ends.split(",")])))
        if not options.small:
            outcomes.append(attempt(lambda: sweep("0.1B", plan)))
    for outcome in outcomes:
        if not outcome["ok"]:
            emit("failed", **outcome)
    return int(any(not outcome["ok"] for outcome in outcomes))


def out_of_time(plan: Plan, **what: Any) -> bool:
    if plan.seconds < LEAST_SECONDS:
        emit("not run", **what, reason="out of time")
        return True
    return False


# ---- step times ------------------------------------------------------------------------------------------------------


def sweep(model: str, plan: Plan) -> None:
    """Measure all points of one model, on one server."""
    if out_of_time(plan, model=model):
        return
    flags = ["--device", plan.device, "--api-server-count", "1", "--max-num-seqs", str(max(plan.batches))]
    if model == "box":
        context_limit = json.loads((BOX / "config.json").read_text())["max_position_embeddings"]
        parameters = None
    else:
        write_folder(plan.folder / model, SIZES[model])
        context_limit, parameters = max(plan.contexts) + OUTPUT_TOKENS[model], SIZES[model].parameters
        flags += ["--model", str(plan.folder / model), "--load-format", "dummy", "--max-model-len", str(context_limit)]
    if plan.device == "cuda":
        flags += ["--max-num-batched-tokens", "4096", "--gpu-memory-utilization", "0.85"]
    with server(*flags, seconds=plan.seconds) as served:
        emit("server", model=model, parameters=parameters, flags=_public(flags), details=served.details,
             seconds_to_ready=served.seconds_to_ready)  # fmt: skip
        load(served, plan, 1, 16, 8)  # loads kernels, which happens on first use
        for context in plan.contexts:
            for batch in plan.batches:
                point(model, batch, min(context, context_limit - OUTPUT_TOKENS[model]), served, plan)


def _public(flags: list[str]) -> list[str]:
    """The flags without the path of the temporary folder."""
    return [flag.rpartition("/")[2] for flag in flags]


def point(model: str, batch: int, context: int, served: Served, plan: Plan) -> None:
    if out_of_time(plan, model=model, batch=batch, context=context):
        return
    with Looks(served.url) as looks:
        report = load(served, plan, batch, context, OUTPUT_TOKENS[model])
    emit("point", model=model, batch=batch, context=context, output_tokens=OUTPUT_TOKENS[model],
         step_ms=step_times(looks.seen, batch), looks=looks.seen, load=report)  # fmt: skip


def step_times(looks: list[list[float]], batch: int) -> list[float]:
    """Milliseconds a step: one figure for each pair of looks between which only decodes of the whole batch ran."""
    found = []
    for before, after in pairwise(looks):
        steps, run = after[1] - before[1], after[6] - before[6]
        only_decodes = after[2] == before[2] and before[4] == after[4] == batch
        if steps > 0 and only_decodes:
            found.append(round(run / steps * 1000, 4))
    return found


class Looks:
    """A context that looks at /metrics ten times a second from a thread: [seconds, *SEEN] a look."""

    def __init__(self, url: str) -> None:
        self.seen: list[list[float]] = []
        self._url, self._over = url, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Looks":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _look(self) -> None:
        began, looks_after = time.monotonic(), 0
        while looks_after < LOOKS_AFTER:
            found = metrics(self._url)
            at = round(time.monotonic() - began, 4)
            self.seen.append([at, *(round(found.get(name, 0.0), 6) for name in SEEN)])
            looks_after += self._over.is_set()
            time.sleep(LOOK_SECONDS)


def load(served: Served, plan: Plan, clients: int, context: int, output_tokens: int) -> dict[str, Any]:
    """`lab load` with `clients` requests at once, of `context` random tokens each; returns its report."""
    chance = random.Random(context)
    prompts = [{"prompt": [chance.randrange(1, 2048) for _ in range(context)]} for _ in range(clients)]
    file = plan.folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(prompt | {"max_tokens": output_tokens}) + "\n" for prompt in prompts))
    words = ["--clients", str(clients), "--requests", str(clients), "--prompts", str(file)]
    return run_load(served.url, words, plan.seconds)


def run_load(url: str, words: list[str], seconds: float) -> dict[str, Any]:
    """Run one generator to its end. Raises subprocess.TimeoutExpired if it takes longer than `seconds`."""
    command = [sys.executable, "-m", "lab_support", "load", url, "--ignore-eos", *words]
    done = subprocess.run(
        [*command, "--timeout", str(max(1.0, seconds))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=max(1.0, seconds),
        text=True,
        check=False,
    )
    return json.loads(done.stdout.strip().rpartition("\n")[2]) | {"exit_code": done.returncode, "url": ""}


# ---- front ends ------------------------------------------------------------------------------------------------------


def front_ends(plan: Plan, counts: list[int]) -> None:
    """Load data/model, whose steps are short, with 256 clients through 1, 2, 4, 8 API servers."""
    clients, requests, tokens = (4, 8, 8) if plan.device == "cpu" else (64, 256, 64)
    for count in counts:
        if out_of_time(plan, api_servers=count):
            continue
        flags = ["--device", plan.device, "--api-server-count", str(count)]
        flags += ["--max-num-seqs", str(clients * GENERATORS)]
        try:
            with server(*flags, seconds=plan.seconds) as served:
                words = ["--clients", str(clients), "--requests", str(requests), "--duration", "6"]
                words += ["--output-tokens", str(tokens), "--prompt-words", "16"]
                front_end_point(count, served, words, plan)
        except ServerNotReady as error:
            emit("not run", api_servers=count, reason=str(error))


def front_end_point(count: int, served: Served, words: list[str], plan: Plan) -> None:
    """Run several generators at once, because a single one could be the bottleneck."""
    reports: list[dict[str, Any]] = [{} for _ in range(GENERATORS)]

    def generate(index: int) -> None:
        reports[index] = attempt(lambda: run_load(served.url, [*words, "--seed", str(index)], plan.seconds))

    before, began = look_after_the_start(served.url, count, plan), time.monotonic()
    threads = [threading.Thread(target=generate, args=(index,)) for index in range(GENERATORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after, seconds = metrics(served.url), time.monotonic() - began
    spent = {
        name: round(after[name] - before.get(name, 0.0), 6) for name in after if "seconds" in name or "total" in name
    }
    emit("front ends", api_servers=count, seconds=round(seconds, 3), spent=_kept(spent), loads=reports)


def look_after_the_start(url: str, api_servers: int, plan: Plan) -> dict[str, float]:
    """Ask until each of so many API servers has published its CPU time after its start; return that look at /metrics.

    An API server publishes late, and all its counts at once, its CPU time last. So where it has published more answers
    than at an earlier look, which had some of it, its CPU time is of after an answer. Raises `ServerNotReady` if that
    does not come within 30 s.
    """
    names = [f'lab_api_requests_total{{api_server="{index}"}}' for index in range(api_servers)]
    words = ["--clients", str(4 * api_servers), "--requests", str(8 * api_servers)]
    earlier: list[float] = []
    deadline = time.monotonic() + min(START_SECONDS, plan.seconds)
    answers: list[float] = []
    while time.monotonic() < deadline:
        run_load(url, [*words, "--prompt-words", "8", "--output-tokens", "4"], plan.seconds)
        look = metrics(url)
        answers = [look.get(name, 0.0) for name in names]
        if earlier and all(now > before for now, before in zip(answers, earlier, strict=True)):
            return look
        if not earlier and all(answers):
            earlier = answers
    raise ServerNotReady(f"got {answers} answers by API server, expected some of each, twice")


def _kept(spent: dict[str, float]) -> dict[str, float]:
    """The counters of engine core and API servers, without histograms."""
    return {name: value for name, value in spent.items() if name.startswith("lab_")}


if __name__ == "__main__":
    sys.exit(main())
