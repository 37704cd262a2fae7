"""10,000 random requests that share prefixes: the tokens are those without prefix caching, and no block is lost.

`python -m tests.proofs.prefixes [--count N] [--seed N]`. Three parts, each through HTTP:

- crowded: a KV cache so small that blocks are evicted and sequences preempted all the time, clients that leave at any
  moment, salts, and prompts whose log-probabilities are wanted. Each answer is compared with that of a server under
  `--no-enable-prefix-caching`.
- roomy: a quarter as many requests, in a cache from which nothing is evicted, so that the hits in /metrics can be
  computed from the prompts alone.
- first token: 1,500-token prompts asked twice in a row, with and without prefix caching.
"""

import argparse
import http.client
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.proofs import Row
from tests.running_server import RunningServer, running_server
from tests.server.prefix_requests import (
    Asked,
    Expected,
    Got,
    Reference,
    body_of,
    figures,
    judged,
    references,
    send_all,
    some_prompts,
    some_requests,
    stream_of_tokens,
)

COUNT = 10_000
CLIENTS = 24
CROWDED: dict[str, Any] = {
    "block_size": 4,
    "num_gpu_blocks_override": 128,
    "enable_prompt_tokens_details": True,
    "log_level": "warning",
}
ROOMY: dict[str, Any] = {"num_gpu_blocks_override": 8192, "enable_prompt_tokens_details": True, "log_level": "warning"}
LONG, PAIRS = 1500, 15


@dataclass(frozen=True)
class Work:
    """count: of requests in the crowd. right: the answers to the prompts, without prefix caching."""

    seed: int
    count: int
    chance: random.Random
    right: dict[tuple[int, ...], Reference]

    def requests(self, count: int, *, calm: bool) -> list[Asked]:
        return some_requests(self.chance, list(self.right), count, calm=calm)


def prove(count: int = COUNT, seed: int | None = None) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    chance = random.Random(seed)
    with running_server(enable_prefix_caching=False, log_level="warning") as plain:
        tokens = stream_of_tokens(plain)
        right = references(plain, some_prompts(chance, tokens, max(1, count // 10)), CLIENTS)
        said(f"{len(right)} prompts answered without prefix caching")
        without = first_token_ratio(plain, chance, tokens)
    work = Work(seed, count, chance, right)
    rows = crowded(work) + roomy(work)
    with running_server(log_level="warning") as server:
        ratio = first_token_ratio(server, chance, tokens)
    asked = f"first token of a {LONG}-token prompt asked again, over the first time: ≤ 1/5, median of {PAIRS} pairs"
    return [*rows, Row(asked, f"{ratio:.3f}; without prefix caching {without:.2f}", ratio <= 0.2)]


def crowded(work: Work) -> list[Row]:
    requests = work.requests(work.count, calm=False)
    with running_server(**CROWDED) as server:
        answers = send_all(server, requests, CLIENTS)
        found = figures(server)
        code, tracebacks = server.stop(), server.said().count("Traceback")
    verdict = judged(requests, answers, work.right)
    for asked, got in verdict.wrong[:5]:
        said(f"WRONG: {asked} got {got}")
    reported, unknown = told(requests, answers)
    what = f"{work.count} requests that share prefixes, a seventh left early (seed {work.seed})"
    kinds, cached = dict(verdict.kinds), f"{found.hits / found.queries:.0%} of tokens cached"
    enough = found.preemptions > 0 < verdict.kinds["begun"]
    return [
        Row(f"{what}: tokens as without prefix caching", f"{kinds}; {found.preemptions} preemptions, {cached}",
            enough and not verdict.wrong),
        Row(f"{what}: every block free at the end", f"{found.free} of {found.total}", found.free == found.total),
        Row(f"{what}: hits by /metrics are those by `usage`, and at most those of clients that left, too",
            f"{reported} ≤ {found.hits} ≤ {reported + unknown}", reported <= found.hits <= reported + unknown),
        Row(f"{what}: exit code 0, no traceback", f"{code}, {tracebacks}", not code and not tracebacks),
    ]  # fmt: skip


def told(requests: list[Asked], answers: list[Got]) -> tuple[int, int]:
    """Cached tokens by all `usage`s, and the most that those without one can have had."""
    pairs = list(zip(requests, answers, strict=True))
    reported = sum(got.cached or 0 for _, got in pairs)
    return reported, sum(len(asked.prompt) for asked, got in pairs if got.cached is None)


def roomy(work: Work) -> list[Row]:
    requests = work.requests(work.count // 4, calm=True)
    with running_server(**ROOMY) as server:
        answers = send_all(server, requests, CLIENTS)
        found = figures(server)
    verdict, expected = judged(requests, answers, work.right), Expected(requests)
    computed = (expected.queries, expected.hits, expected.hits)
    measured = (found.queries, found.hits, told(requests, answers)[0])
    what = f"{len(requests)} requests, nothing evicted (seed {work.seed})"
    return [
        Row(f"{what}: tokens as without prefix caching", str(dict(verdict.kinds)), not verdict.wrong),
        Row(f"{what}: tokens looked up, found, found by `usage` are as computed from the prompts, {computed}",
            f"{measured}, {found.hits / found.queries:.1%}", measured == computed),
    ]  # fmt: skip


# ---- first token -----------------------------------------------------------------------------------------------------


def first_token_ratio(server: RunningServer, chance: random.Random, tokens: list[int], pairs: int = PAIRS) -> float:
    """Median time to the first token of a long prompt asked again at once, over that of the first time."""
    first, second = [], []
    for _ in range(pairs):
        start = chance.randrange(len(tokens) - LONG)
        prompt = [chance.choice(tokens), *tokens[start : start + LONG - 1]]  # no two prompts begin alike
        first.append(seconds_to_first_token(server, prompt))
        second.append(seconds_to_first_token(server, prompt))
    ms = [f"{1000 * statistics.median(each):.1f} ms" for each in (first, second)]
    said(f"first token: {ms[0]}, asked again {ms[1]}")
    return statistics.median(second) / statistics.median(first)


def seconds_to_first_token(server: RunningServer, prompt: list[int]) -> float:
    body = body_of(Asked(tuple(prompt), 4, None, None, False))
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    begun = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200 and response.readline().startswith(b"data: {")
    seconds = time.monotonic() - begun
    response.read()
    connection.close()
    return seconds


def said(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    rows = prove(given.count, given.seed)
    for row in rows:
        print(f"{'met' if row.met else 'NOT MET'}: {row.asked}: {row.measured}")
    sys.exit(0 if all(row.met for row in rows) else 1)
