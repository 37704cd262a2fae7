"""Several engine cores behind vLLM's front end, and behind two of them, which hear of each other by the coordinator."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.kill_trial import ROLES, Streams, wait_until_gone
from tests.running_server import PACED, RunningServer, running_server
from tests.server.test_replacement import stop, until
from tests.server.vllm_rs.needed import WITH_VLLM_RS

pytestmark = WITH_VLLM_RS

QUESTION = {"model": "model", "prompt": "Once upon a time", "ignore_eos": True}


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with running_server(frontend="vllm-rs", data_parallel_size=2, api_server_count=2, **PACED) as made:
        yield made


@contextmanager
def only(server: RunningServer, name: str) -> Iterator[None]:
    """One front end accepts, because the other one is stopped."""
    other = server.pids["api-1" if name == "api-0" else "api-0"]
    stop(other)
    try:
        yield
    finally:
        os.kill(other, signal.SIGCONT)


def counted(server: RunningServer, metric: str) -> list[float]:
    """A metric of either engine core, as the front end that accepts tells it."""
    text = server.get("/metrics").text
    return [
        float(found[1])
        for engine in "01"
        if (found := re.search(rf'^vllm:{metric}{{[^}}]*engine="{engine}"[^}}]*}} (\S+)$', text, re.MULTILINE))
    ]


@contextmanager
def streaming(server: RunningServer, engine: int) -> Iterator[None]:
    """A long answer of that engine core has begun, and has not ended."""
    asked = QUESTION | {"max_tokens": 1900, "stream": True}
    headers = {"X-data-parallel-rank": str(engine)}
    with server.post("/v1/completions", asked, stream=True, headers=headers) as got:
        lines = got.iter_lines()  # kept, because its end would close the connection
        next(lines)
        yield


def chosen(server: RunningServer) -> int:
    """The engine core that gets a request that asks for none."""
    before = counted(server, "generation_tokens_total")
    assert server.post("/v1/completions", QUESTION | {"max_tokens": 2}).status_code == 200
    grown: list[float] = []

    def told() -> bool:
        after = counted(server, "generation_tokens_total")
        grown[:] = [now - earlier for now, earlier in zip(after, before, strict=True)]
        return sum(grown) == 2

    until(told)
    return grown.index(2)


@pytest.mark.parametrize("busy", [0, 1])
def test_a_front_end_spares_the_engine_core_that_another_one_keeps_busy(server: RunningServer, busy: int) -> None:
    """Alone it would share its own requests out evenly, or give all to the first."""
    with ExitStack() as streams:
        with only(server, "api-0"):
            for _ in range(3):
                streams.enter_context(streaming(server, busy))
        with only(server, "api-1"):
            until(lambda: chosen(server) != busy)
            assert [chosen(server) for _ in range(4)] == [1 - busy] * 4


def test_either_front_end_tells_the_state_of_both_engine_cores(server: RunningServer) -> None:
    with ExitStack() as streams:
        for name in ("api-0", "api-1"):
            with only(server, name):
                streams.enter_context(streaming(server, 1))
        for name in ("api-0", "api-1"):
            with only(server, name):
                until(lambda: counted(server, "num_requests_running") == [0, 2])


def test_both_engine_cores_answer_through_one_front_end_and_alike() -> None:
    asked = QUESTION | {"temperature": 0, "max_tokens": 20}
    with running_server(frontend="vllm-rs", data_parallel_size=2, api_server_count=1) as server:
        answers = [
            server.post("/v1/completions", asked, headers={"X-data-parallel-rank": rank}).json() for rank in "0101"
        ]
        assert len({answer["choices"][0]["text"] for answer in answers}) == 1
        assert counted(server, "generation_tokens_total") == [40, 40]


@pytest.mark.parametrize("role", [role for role in ROLES if role != "resource-tracker"])
def test_nothing_is_left_whoever_is_killed(role: str) -> None:
    words = ("--no-restart-api-servers",)
    with running_server(*words, frontend="vllm-rs", data_parallel_size=2, api_server_count=2, **PACED) as server:
        Streams(server.url, 2)
        os.kill(server.pids[role], signal.SIGKILL)
        server.process.wait(30)
        assert wait_until_gone(server.directory, 15).left == []
