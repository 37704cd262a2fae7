"""Prefix caching through the public door: `usage`, /metrics, salts, several engine cores, and a proof in small."""

import json
import random
from collections.abc import Iterator

import pytest
import requests

from tests.proofs.prefixes import CROWDED, LONG, told
from tests.running_server import RunningServer, running_server
from tests.server.prefix_requests import (
    BLOCK,
    Expected,
    Figures,
    Reference,
    figures,
    judged,
    references,
    send_all,
    some_prompts,
    some_requests,
    stream_of_tokens,
)

CLIENTS = 12


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningServer]:
    with running_server(enable_prefix_caching=False, api_server_count=1, enable_prompt_tokens_details=True) as made:
        yield made


@pytest.fixture(scope="module")
def cached() -> Iterator[RunningServer]:
    with running_server(num_gpu_blocks_override=4096, enable_prompt_tokens_details=True) as made:
        yield made


@pytest.fixture(scope="module")
def tokens(plain: RunningServer) -> list[int]:
    return stream_of_tokens(plain)


@pytest.fixture(scope="module")
def right(plain: RunningServer, tokens: list[int]) -> dict[tuple[int, ...], Reference]:
    return references(plain, some_prompts(random.Random(7), tokens, 40), CLIENTS)


@pytest.fixture
def prompt(tokens: list[int], request: pytest.FixtureRequest) -> list[int]:
    """50 tokens that no other test has asked for: they begin with this test's name, as numbers."""
    chance = random.Random(request.node.nodeid)
    return [chance.randrange(1, 2000) for _ in range(50)]


def completion(server: RunningServer, prompt: object, **fields: object) -> requests.Response:
    body = {"prompt": prompt, "max_tokens": 3, "temperature": 0, "ignore_eos": True} | fields
    return server.post("/v1/completions", body)


def cached_tokens(answer: requests.Response) -> int:
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def usages(answer: requests.Response) -> list[dict]:
    """Those of a stream's events, in order."""
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    return [found for line in lines if (found := json.loads(line[6:]).get("usage"))]


# ---- usage and metrics ----------------------------------------------------------------------------------------------


def test_usage_and_metrics_say_how_much_of_a_prompt_was_cached(cached: RunningServer, prompt: list[int]) -> None:
    before = figures(cached)
    assert before.free == before.total
    answers = [completion(cached, prompt) for _ in range(2)]
    assert answers[0].json()["choices"] == answers[1].json()["choices"]
    assert list(map(cached_tokens, answers)) == [0, 48]
    after = figures(cached)
    assert (after.queries - before.queries, after.hits - before.hits) == (100, 48)
    assert after.free == after.total, "cached blocks that nobody uses count as free"


def test_a_stream_says_it_in_its_last_event(cached: RunningServer, prompt: list[int]) -> None:
    for expected in (0, 48):
        options = {"include_usage": True, "continuous_usage_stats": True}
        *running, last = usages(completion(cached, prompt, stream=True, stream_options=options))
        assert last["prompt_tokens_details"] == {"cached_tokens": expected}
        assert running and not any("prompt_tokens_details" in each for each in running), "as in vLLM"


def test_a_chat_says_it_too(cached: RunningServer) -> None:
    body = {"messages": [{"role": "user", "content": "What does one mean by a thread? " * 5}], "max_tokens": 3}
    whole = [cached.post("/v1/chat/completions", body) for _ in range(2)]
    count = whole[0].json()["usage"]["prompt_tokens"]
    stream = cached.post("/v1/chat/completions", body | {"stream": True, "stream_options": {"include_usage": True}})
    full = (count - 1) // BLOCK * BLOCK
    assert [*map(cached_tokens, whole), usages(stream)[-1]["prompt_tokens_details"]["cached_tokens"]] == [0, full, full]
    assert full > 0


def test_a_prompt_counts_once_whatever_its_number_of_choices(cached: RunningServer, prompt: list[int]) -> None:
    """As its tokens do. Here two prompts, of which one was asked for before, and three choices of each."""
    completion(cached, prompt)
    answer = completion(cached, [prompt, prompt[1:]], n=3, temperature=1, seed=5)
    assert answer.json()["usage"]["prompt_tokens"] == 99
    assert cached_tokens(answer) == 48


def test_without_the_flag_usage_says_nothing_of_it(server: RunningServer) -> None:
    for _ in range(2):
        assert set(completion(server, [5] * 50).json()["usage"]) == {
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
        }


def test_prompt_log_probabilities_are_computed(cached: RunningServer, plain: RunningServer, prompt: list[int]) -> None:
    completion(cached, prompt)
    before = figures(cached)
    answer, without = (completion(each, prompt, prompt_logprobs=0) for each in (cached, plain))
    assert cached_tokens(answer) == 0
    told, expected = (each.json()["choices"][0]["prompt_logprobs"] for each in (answer, without))
    assert len(told) == 50 and [entry and entry.keys() for entry in told] == [
        entry and entry.keys() for entry in expected
    ]
    assert figures(cached)[:2] == before[:2], "not looked up, so not counted"
    echoed = completion(cached, prompt, echo=True, logprobs=0)
    assert cached_tokens(echoed) == 0
    assert cached_tokens(completion(cached, prompt)) == 48


def test_switched_off_nothing_is_found(plain: RunningServer, prompt: list[int]) -> None:
    assert [cached_tokens(completion(plain, prompt)) for _ in range(2)] == [0, 0]
    assert figures(plain)[:2] == (0, 0)


# ---- salts ----------------------------------------------------------------------------------------------------------


def test_a_salt_separates_those_who_know_it_from_all_others(cached: RunningServer, prompt: list[int]) -> None:
    asked = [None, "mine", "mine", "yours", None]
    assert [cached_tokens(completion(cached, prompt, cache_salt=salt)) for salt in asked] == [0, 0, 48, 0, 48]


@pytest.mark.parametrize("salt", ["", 5, ["a"]])
def test_a_salt_is_a_text_and_not_empty(cached: RunningServer, salt: object) -> None:
    answer = completion(cached, [5], cache_salt=salt)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cache_salt")


# ---- several engine cores -------------------------------------------------------------------------------------------


def test_each_engine_core_has_a_cache_of_its_own_and_is_chosen_as_before(tokens: list[int]) -> None:
    """The router takes turns, whoever has the prefix."""
    prompt = tokens[:50]
    with running_server(data_parallel_size=2, api_server_count=1, enable_prompt_tokens_details=True) as server:
        answers = [completion(server, prompt) for _ in range(6)]
        engines = [answer.headers["x-engine"] for answer in answers]
        assert sorted(engines) == ["0"] * 3 + ["1"] * 3
        for engine in "01":
            found = [cached_tokens(answer) for answer, chosen in zip(answers, engines, strict=True) if chosen == engine]
            assert found == [0, 48, 48]
        assert len({answer.json()["choices"][0]["text"] for answer in answers}) == 1
        assert figures(server)[:2] == (300, 192)


# ---- the proof in small (tests/proofs/prefixes.py) ------------------------------------------------------------------


def test_a_crowd_gets_the_tokens_that_it_would_get_without(right: dict[tuple[int, ...], Reference]) -> None:
    requests = some_requests(random.Random(8), list(right), 250, calm=False)
    with running_server(**CROWDED) as server:
        answers = send_all(server, requests, CLIENTS)
        found = figures(server)
    verdict = judged(requests, answers, right)
    print(found, verdict.kinds)
    assert not verdict.wrong
    assert verdict.kinds["begun"] > 10
    assert found.free == found.total
    reported, unknown = told(requests, answers)
    assert 0 < reported <= found.hits <= reported + unknown


def test_hits_are_as_computed_from_the_prompts(
    cached: RunningServer, right: dict[tuple[int, ...], Reference], request: pytest.FixtureRequest
) -> None:
    salts = {salt: f"{salt} of this test" for salt in (None, "red", "blue")}
    made = some_requests(random.Random(9), list(right), 150, calm=True)
    requests = [asked._replace(salt=salts[asked.salt]) for asked in made]
    before = figures(cached)
    answers = send_all(cached, requests, CLIENTS)
    after, expected = figures(cached), Expected(requests)
    assert not judged(requests, answers, right).wrong
    assert (after.queries - before.queries, after.hits - before.hits) == (expected.queries, expected.hits)
    assert told(requests, answers) == (expected.hits, 0)


def test_a_long_prompt_asked_again_is_hardly_computed(cached: RunningServer, tokens: list[int]) -> None:
    """Counted, not timed: `python -m tests.proofs.prefixes` measures the time to its first token."""
    before: Figures = figures(cached)
    answers = [completion(cached, [3, *tokens[:LONG]], cache_salt="long") for _ in range(2)]
    assert cached_tokens(answers[1]) == (LONG // BLOCK) * BLOCK
    assert figures(cached).hits - before.hits == cached_tokens(answers[1])
