"""vLLM's front end in Rust before our engine core: 500 mixed requests of the public OpenAI client, and 60 kills.

And 10,000 broken messages to a running engine core, from a program of the tests' own in its place. All but these need
vllm-rs (VLLM_RUST_FRONTEND_PATH, or an installed vllm); without it there are no rows of it, and it says why.
`python -m tests.proofs.vllm_rs --requests 50 --kills 5 --messages 500` for less.
"""

import argparse
import os
import random
import re
import select
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import openai

from lab_support.config import ConfigError
from lab_support.notebook.servers.look import by_name
from lab_support.supervision.vllm_rs import find
from tests.kill_trial import Streams, living, wait_until_gone
from tests.proofs import Row
from tests.running_server import RunningServer, launched, running_server
from tests.server.vllm_rs.breaker import AT_ONCE as AT_ONCE_BROKEN
from tests.server.vllm_rs.broken_frames import break_an_engine_core

REQUESTS, ABORTS, KILLS, MESSAGES, AT_ONCE = 500, 200, 60, 10_000, 8
PROMPTS = ("Once upon a time", "Tim and Lucy", "The old mouse", "One day in the garden", "A", "In the evening Ida")
CLOSE = 1e-4  # of log-probabilities
SPECIAL = re.compile(r"<\|\w+\|>")


def mixed(dice: random.Random) -> dict[str, Any]:
    """A request for text: each kind of parameter, alone and with others."""
    asked: dict[str, Any] = {"prompt": dice.choice(PROMPTS), "max_tokens": dice.choice([1, 7, 40, 120])}
    extra: dict[str, Any] = {}
    asked["temperature"] = dice.choice([0, 0, 0.7, 1])
    if asked["temperature"]:
        asked["seed"] = dice.randrange(1000)
        asked["top_p"] = dice.choice([1, 0.9])
        extra |= {"top_k": dice.choice([0, 5]), "min_p": dice.choice([0, 0.02])}
    if dice.random() < 0.3:
        asked["stop"] = dice.sample([" good", ".", " the", "mouse"], 2)
    if dice.random() < 0.3:
        asked |= {"presence_penalty": 0.5, "frequency_penalty": dice.choice([0, 0.3])}
    if dice.random() < 0.2:
        extra["repetition_penalty"] = 1.2
    if dice.random() < 0.2:
        extra |= {"ignore_eos": True}
    if dice.random() < 0.2:
        extra |= {"stop_token_ids": [dice.randrange(20, 400)]}
    if dice.random() < 0.3:
        asked["logprobs"] = dice.choice([0, 1, 5])
    return asked | {"extra_body": extra, "stream": dice.random() < 0.5}


def told(client: openai.OpenAI, asked: dict[str, Any]) -> dict[str, Any]:
    """Its text, end and log-probabilities, streamed or not."""
    got = client.completions.create(model="model", **asked)
    parts = [part.choices[0] for part in (got if asked["stream"] else [got]) if part.choices]
    scored = [part.logprobs for part in parts if part.logprobs]
    return {
        "text": "".join(part.text for part in parts),
        "end": next((part.finish_reason for part in reversed(parts) if part.finish_reason), None),
        # Of a special token, such as the end, our API server tells the name and vllm-rs an empty text.
        "tokens": ["" if SPECIAL.fullmatch(token) else token for one in scored for token in one.tokens or []],
        "logprobs": [value for one in scored for value in one.token_logprobs or []],
    }


def differs(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The first field in which two answers differ; "" if they are the same."""
    for name in ("text", "end", "tokens"):
        if one[name] != other[name]:
            return name
    pairs = zip(one["logprobs"], other["logprobs"], strict=True)
    return "" if all(abs((a or 0) - (b or 0)) <= CLOSE for a, b in pairs) else "logprobs"


def client_of(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def hang_up(server: RunningServer, _: int) -> None:
    """A client that leaves after its first event."""
    body = {"model": "model", "prompt": PROMPTS[0], "max_tokens": 1500, "stream": True, "ignore_eos": True}
    with server.post("/v1/completions", body, stream=True) as got:
        next(got.iter_lines())


def usage(server: RunningServer) -> float:
    return by_name(server.get("/metrics").text)["vllm:kv_cache_usage_perc"]


def rows_of_answers(count: int, aborts: int) -> list[Row]:
    asked = [mixed(random.Random(seed)) for seed in range(count)]
    with running_server(api_server_count=1) as ours, running_server(frontend="vllm-rs", api_server_count=1) as theirs:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = [list(pool.map(lambda one: told(client_of(server), one), asked)) for server in (ours, theirs)]  # noqa: B023
            list(pool.map(lambda number: hang_up(theirs, number), range(aborts)))
        wrong = [(seed, name) for seed, pair in enumerate(zip(*found, strict=True)) if (name := differs(*pair))]
        answer = told(client_of(theirs), asked[0])  # whose end is told after the blocks are free
        left = usage(theirs)
    for seed, name in wrong:
        print(f"  request {seed} differs in {name}: {asked[seed]}", file=sys.stderr)
    kinds = Counter("streamed" if one["stream"] else "whole" for one in asked)
    return [
        Row(
            f"{count} mixed requests of the openai client: answers as by our API server, logprobs within {CLOSE:g}",
            f"{count - len(wrong)} the same ({kinds['streamed']} streamed)",
            not wrong,
        ),
        Row(f"after {aborts} hang-ups every block is free", f"{left:g} in use", left == 0 and bool(answer["text"])),
    ]


def one_kill(dice: random.Random) -> tuple[str, list[str]]:
    """SIGKILL for the launcher, vllm-rs or the engine core, while it starts or while it streams; what is left."""
    role = dice.choice(["launcher", "api-0", "engine-0"])
    with launched("--no-restart-api-servers", frontend="vllm-rs", api_server_count=1) as (process, ready, log, folder):
        starting = dice.random() < 0.4
        if starting:
            select.select([ready], [], [], dice.uniform(0, 2.5))
        else:
            line = ready.readline()
            assert line, log.read_text()
            Streams(line.split('"url": "')[1].split('"')[0], 3)
        pids = living(folder)
        pid = process.pid if role == "launcher" or not pids else dice.choice(pids)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        process.send_signal(signal.SIGTERM)  # for a kill that ends nothing else, such as the resource tracker's
        outcome = wait_until_gone(folder, 15.0)
        process.wait()
    return f"{role}, {'starting' if starting else 'streaming'}", outcome.left


def rows_of_kills(count: int) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    left: list[str] = []
    for number in range(count):
        what, remaining = one_kill(dice)
        left += remaining
        print(f"  {number + 1} {what}: {remaining or 'nothing left'}", file=sys.stderr, flush=True)
    return [Row(f"{count} random SIGKILLs: 0 processes left", f"{len(left)} left, seed {seed}", not left)]


def rows_of_broken_messages(count: int) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32)
    report, code, said = break_an_engine_core(count, seed, within=1800)
    kinds = ", ".join(f"{name} {number}" for name, number in sorted(report.sent.items()))
    print(f"  {kinds}", *report.wrong[:20], sep="\n  ", file=sys.stderr)
    answered = -(-count // AT_ONCE_BROKEN)
    met = not report.wrong and report.right == answered and report.in_use == 0 and code == 0 and "Traceback" not in said
    return [
        Row(
            f"{sum(report.sent.values())} broken messages to a running engine core: every right request in between is "
            "answered right, and at the end every block is free",
            f"{report.right} of {answered} right, {report.in_use:g} in use, exit code {code}, seed {seed}",
            met,
        )
    ]


def prove(requests: int = REQUESTS, kills: int = KILLS, messages: int = MESSAGES) -> list[Row]:
    rows = rows_of_broken_messages(messages) if messages else []
    try:
        find("vllm-rs")
    except ConfigError as why:
        print(f"  skipped: {why}", file=sys.stderr)
        return rows
    return [*rows, *(rows_of_answers(requests, min(ABORTS, requests)) if requests else ()), *rows_of_kills(kills)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    given = parser.parse_args()
    for row in prove(given.requests, given.kills, given.messages):
        print(row)
