"""The time from step to step while exactly so many sequences decode, and the recorded time of such a step."""

import contextlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from lab_support.pace.recorded import RECORDING
from tests.frontend.test_metrics import value
from tests.proofs.ratios import cpu_seconds
from tests.running_server import RunningServer

PROMPT, ANSWER = 512, 1200


class Look(NamedTuple):
    """The engine core's totals at one moment; seconds without those in which it waited for requests."""

    steps: float
    seconds: float
    prompt_tokens: float
    generated: float
    running: float
    late: float
    cpu: float


class Kept(NamedTuple):
    """One window: milliseconds from step to step, and recorded; late steps of all; share of a core."""

    step_ms: float
    recorded_ms: float
    late: float
    steps: float
    share: float

    @property
    def off(self) -> float:
        return self.step_ms / self.recorded_ms - 1


def look(server: RunningServer) -> Look:
    text = server.get("/metrics").text
    stage = "lab_engine_stage_seconds_total"
    return Look(
        value(text, "lab_engine_steps_total"),
        value(text, stage) - value(text, stage, stage="idle"),
        value(text, "lab_engine_prompt_tokens_total"),
        value(text, "lab_engine_generation_tokens_total"),
        value(text, "vllm:num_requests_running"),
        value(text, "lab_engine_late_steps_total"),
        cpu_seconds([server.pids["engine-0"]]),
    )


def window(server: RunningServer, rows: int, answer: int = ANSWER) -> tuple[Look, Look, float]:
    """The first and the last look between which only decodes of all rows ran, and the mean context between them."""
    before = look(server)
    looks: list[Look] = []
    with loaded(server, rows, answer) as load:
        while load.poll() is None:
            seen = look(server)
            everyone = seen.running == rows and seen.prompt_tokens - before.prompt_tokens == rows * PROMPT
            if everyone and (not looks or seen.steps > looks[-1].steps):
                looks.append(seen)
    assert load.returncode == 0 and len(looks) > 1, (load.returncode, looks)
    first, last = looks[0], looks[-1]
    generated = (first.generated + last.generated) / 2 - before.generated
    return first, last, PROMPT + generated / rows


@contextlib.contextmanager
def loaded(server: RunningServer, rows: int, answer: int) -> "Iterator[subprocess.Popen[bytes]]":
    """`rows` clients with a request each, of random tokens."""
    chance = random.Random(rows)
    asked = [{"prompt": [chance.randrange(1, 2048) for _ in range(PROMPT)], "max_tokens": answer} for _ in range(rows)]
    command = [sys.executable, "-m", "lab_support", "load", server.url, "--clients", str(rows), "--requests", str(rows)]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n".join(map(json.dumps, asked)))
        file.flush()
        command += ["--prompts", file.name, "--duration", "600", "--timeout", "600"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
            yield load


def recorded_ms(model: str, rows: int, context: float) -> float:
    """The recorded median at the two recorded contexts, and between them on a straight line."""
    samples = json.loads(RECORDING.read_bytes())["samples"]
    points = [each for each in samples if each["what"] == "point" and (each["model"], each["batch"]) == (model, rows)]
    (near, low), (far, high) = ((p["context"] + p["output_tokens"] / 2, median(p["step_ms"])) for p in points)
    return low + (high - low) * (context - near) / (far - near)


def measure(server: RunningServer, model: str, rows: int, answer: int = ANSWER) -> Kept:
    first, last, context = window(server, rows, answer)
    steps, seconds = last.steps - first.steps, last.seconds - first.seconds
    return Kept(
        step_ms=seconds / steps * 1000,
        recorded_ms=recorded_ms(model, rows, context),
        late=last.late - first.late,
        steps=steps,
        share=(last.cpu - first.cpu) / seconds,
    )
