"""Random requests that share prefixes, the clients that send them, and the tokens that they must get.

Used by tests/proofs/prefixes.py in full, and by test_prefix_caching.py in small.
"""

import concurrent.futures
import http.client
import json
import random
import re
import select
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lab_support.config import MODEL_IN_THE_BOX
from tests.running_server import RunningServer

BLOCK = 16
LONGEST = 160
MOST_TOKENS = 40
NEAR_TIE = 1e-4
"""Less than this between a token and the next best one, and rounding decides which of them is greedy: a prompt computed
in other pieces is summed in another order (about 1e-5 in float32)."""
SALTS = (None, None, None, None, "red", "blue")


class Asked(NamedTuple):
    """One request. leave_after: the number of texts after which its client leaves; None: it stays."""

    prompt: tuple[int, ...]
    max_tokens: int
    salt: str | None
    leave_after: int | None
    with_prompt_logprobs: bool


class Got(NamedTuple):
    """whole: the answer came to its end. cached: what its usage says, if it said anything."""

    text: str
    whole: bool
    cached: int | None


def stream_of_tokens(server: RunningServer) -> list[int]:
    """All prompts of data/prompts as one list of token ids."""
    lines = (MODEL_IN_THE_BOX.parent / "prompts" / "mixed.jsonl").read_text().splitlines()
    text = " ".join(asked["prompt"] for asked in map(json.loads, lines) if "prompt" in asked)
    found: list[int] = []
    for start in range(0, len(text), 100_000):
        found += server.post("/tokenize", {"prompt": text[start : start + 100_000]}).json()["tokens"]
    return found


def some_prompts(chance: random.Random, tokens: list[int], count: int) -> list[tuple[int, ...]]:
    """A beginning of one of 16 texts, the first ones most often, then a few tokens of another place.

    No length is a multiple of a block, so that all full blocks of a prompt that is asked again are cached: the last
    token is not in one of them.
    """
    trunks = [_slice(chance, tokens, LONGEST) for _ in range(16)]
    made: list[tuple[int, ...]] = []
    while len(made) < count:
        tail = _slice(chance, tokens, chance.randrange(1, BLOCK))
        trunk = trunks[chance.randrange(chance.randint(1, len(trunks)))]
        prompt = (*trunk[: chance.randrange(1, LONGEST)], *tail)
        if len(prompt) % BLOCK:
            made.append(prompt)
    return made


def _slice(chance: random.Random, tokens: list[int], length: int) -> list[int]:
    start = chance.randrange(len(tokens) - length)
    return tokens[start : start + length]


def some_requests(chance: random.Random, prompts: list[tuple[int, ...]], count: int, *, calm: bool) -> list[Asked]:
    """calm: nobody leaves, and none wants its prompt's log-probabilities."""
    return [
        Asked(
            chance.choice(prompts),
            chance.randint(1, MOST_TOKENS),
            chance.choice(SALTS),
            None if calm or chance.random() < 0.85 else chance.randrange(6),
            not calm and chance.random() < 0.03,
        )
        for _ in range(count)
    ]


# ---- clients ---------------------------------------------------------------------------------------------------------


def send_all(server: RunningServer, requests: list[Asked], clients: int) -> list[Got]:
    """The answers, in the order of the requests; `clients` of them are on their way at once."""
    pairs = [(server.url, requests[number::clients]) for number in range(clients)]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(_send, pairs))
    found: list[Any] = [None] * len(requests)
    for number, part in enumerate(parts):
        found[number::clients] = part
    return found


def _send(pair: tuple[str, list[Asked]]) -> list[Got]:
    url, requests = pair
    where = urlsplit(url).netloc
    connection, found = http.client.HTTPConnection(where, timeout=120), []
    for asked in requests:
        found.append(_ask(connection, asked))
        if not found[-1].whole:
            connection.close()  # it connects again for the next one
    connection.close()
    return found


def body_of(asked: Asked) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": list(asked.prompt),
        "max_tokens": asked.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    if asked.salt is not None:
        body["cache_salt"] = asked.salt
    if asked.with_prompt_logprobs:
        return body | {"prompt_logprobs": 0}
    return body | {"stream": True, "stream_options": {"include_usage": True}}


def _ask(connection: http.client.HTTPConnection, asked: Asked) -> Got:
    connection.request("POST", "/v1/completions", json.dumps(body_of(asked)), {"content-type": "application/json"})
    if asked.leave_after == 0:
        return Got("", False, None)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    if asked.with_prompt_logprobs:
        answer = json.loads(response.read())
        return Got(answer["choices"][0]["text"], True, _cached(answer["usage"]))
    return _read(response, asked.leave_after)


def _read(response: http.client.HTTPResponse, leave_after: int | None) -> Got:
    texts: list[str] = []
    cached = None
    for event in _events(response):
        texts += [choice["text"] for choice in event["choices"]]
        cached = _cached(event["usage"]) if event["usage"] else cached
        if len(texts) == leave_after:
            return Got("".join(texts), False, cached)
    return Got("".join(texts), True, cached)


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in response:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            assert "error" not in event, event
            yield event


def _cached(usage: dict[str, Any]) -> int | None:
    return usage.get("prompt_tokens_details", {}).get("cached_tokens")


# ---- the tokens that they must get -----------------------------------------------------------------------------------


class Reference(NamedTuple):
    """ends: how long the text is after each token. gaps: how much likelier each token is than the next best one."""

    text: str
    ends: list[int]
    gaps: list[float]

    def differs(self, got: Got, max_tokens: int) -> int | None:
        """The first token that `got` has not, or has otherwise; None if there is none."""
        whole = self.text[: self.ends[max_tokens - 1]]
        if got.text == whole or (not got.whole and whole.startswith(got.text)):
            return None
        same = next((at for at, (a, b) in enumerate(zip(got.text, whole, strict=False)) if a != b), len(got.text))
        return next((number for number, end in enumerate(self.ends) if end > same), max_tokens - 1)


def references(server: RunningServer, prompts: list[tuple[int, ...]], clients: int) -> dict[tuple[int, ...], Reference]:
    """The longest answer to each prompt, of a server without prefix caching."""
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return dict(zip(prompts, pool.map(lambda prompt: _reference(server, prompt), prompts), strict=True))


def _reference(server: RunningServer, prompt: tuple[int, ...]) -> Reference:
    asked = {"prompt": list(prompt), "max_tokens": MOST_TOKENS, "temperature": 0, "ignore_eos": True, "logprobs": 2}
    choice = server.post("/v1/completions", asked).json()["choices"][0]
    logprobs = choice["logprobs"]
    best = (sorted(top.values(), reverse=True) for top in logprobs["top_logprobs"])
    ends = [*logprobs["text_offset"][1:], len(choice["text"])]
    return Reference(choice["text"], ends, [a - b for a, b, *_ in best])


class Verdict(NamedTuple):
    """Answers by kind: "whole", "begun" (its client has left), "near tie" (see NEAR_TIE), "wrong"."""

    kinds: Counter[str]
    wrong: list[tuple[Asked, Got]]


def judged(requests: list[Asked], answers: list[Got], right: dict[tuple[int, ...], Reference]) -> Verdict:
    kinds: Counter[str] = Counter()
    wrong = []
    for asked, got in zip(requests, answers, strict=True):
        reference = right[asked.prompt]
        at = reference.differs(got, asked.max_tokens)
        kind = "whole" if got.whole else "begun"
        if at is not None:
            kind = "near tie" if reference.gaps[at] < NEAR_TIE else "wrong"
        kinds[kind] += 1
        if kind == "wrong":
            wrong.append((asked, got))
    return Verdict(kinds, wrong)


# ---- what /metrics must say ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """Tokens looked up and found, computed from the requests alone, in a cache from which nothing is evicted.

    Each full block of a prompt is computed once for each salt, and found by all others that begin with it: whichever
    comes first. So the sum doesn't depend on the order.
    """

    requests: list[Asked] = field(repr=False)

    @property
    def queries(self) -> int:
        return sum(len(asked.prompt) for asked in self.requests)

    @cached_property
    def hits(self) -> int:
        blocks = [(asked.salt, beginning) for asked in self.requests for beginning in beginnings(asked.prompt)]
        return BLOCK * (len(blocks) - len(set(blocks)))


def beginnings(prompt: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The tokens up to the end of each full block."""
    return [prompt[:end] for end in range(BLOCK, len(prompt) + 1, BLOCK)]


class Figures(NamedTuple):
    """Of /metrics, once no request runs."""

    queries: int
    hits: int
    preemptions: int
    free: int
    total: int


def figures(server: RunningServer) -> Figures:
    """Waits until nothing runs and the engine core's last figures have been published."""
    names = (
        "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:num_preemptions_total",
        "lab_engine_free_blocks", "lab_engine_total_blocks",
    )  # fmt: skip
    seen: list[tuple[float, ...]] = []
    for _ in range(200):
        text = server.get("/metrics").text
        busy = metric(text, "vllm:num_requests_running") + metric(text, "vllm:num_requests_waiting")
        seen.append((busy, *(metric(text, name) for name in names)))
        if not busy and seen[-5:] == [seen[-1]] * 5:
            break
        select.select([], [], [], 0.1)
    return Figures(*map(int, seen[-1][1:]))


def metric(text: str, name: str) -> float:
    """Sum over all labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))
