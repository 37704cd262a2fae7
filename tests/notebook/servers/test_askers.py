"""Clients of a live server in one event loop, and what its counters say of them: as notebook 08a uses them."""

import asyncio
import time
from itertools import pairwise
from statistics import median

import pytest

from lab_support.instruments import proc
from lab_support.notebook.servers.askers import (
    ask_at_once,
    askers,
    long_prompt,
    meet_a_stop,
    paced_server,
    stand_still,
    stopped,
    watch,
)
from lab_support.notebook.servers.look import read_metrics
from lab_support.notebook.servers.token_time import TOKEN_STAGES, time_of_a_token

ROWS = 4


@pytest.fixture(scope="module")
def server():
    """A stand-in with static batches, so that the steps of a queue are known."""
    with paced_server(4, rows=ROWS, batching="static") as started:
        yield started


def test_a_client_gets_each_token_with_its_time_and_may_leave_early(server):
    async def asked():
        async with askers(server, 1) as (asker,):
            return [await asker.ask(5), await asker.ask(50, leave_after=2), await asker.ask(3)]

    whole, left, again = asyncio.run(asked())
    assert [len(each.times) for each in (whole, left, again)] == [5, 2, 3]
    assert whole.times == sorted(whole.times) and left.times[0] > whole.times[-1]
    assert len({whole.id, left.id, again.id}) == 3


def test_a_refusal_is_said(server):
    async def refused():
        async with askers(server, 1) as (asker,):
            await asker.ask(100_000)

    with pytest.raises(RuntimeError, match="got “status 400” from the server, expected an answer of 100000 tokens"):
        asyncio.run(refused())


def test_no_token_comes_while_the_engine_core_stands_still_and_all_come_afterwards(server):
    async def asked():
        async with askers(server, 1) as (asker,):
            answer = asyncio.ensure_future(asker.ask(40))
            while not asker.arrived:
                await asyncio.sleep(0.001)
            await stand_still(server, seconds=0.5)
            return await answer

    times = asyncio.run(asked()).times
    assert len(times) == 40
    assert max(after - before for before, after in pairwise(times)) > 0.4


def test_several_works_meet_one_stop_and_all_come_to_their_end(server):
    times = []

    async def work(asker, begin):
        while time.monotonic() < begin + 1.2:
            times.append((begin, (await asker.ask(1)).times[0] - begin))

    asyncio.run(meet_a_stop(server, [work, work], after=0.3, seconds=0.6))
    assert len({begin for begin, _ in times}) == 1
    arrived = sorted(at for _, at in times)
    assert any(before < 0.4 and after > 0.85 for before, after in pairwise(arrived))
    assert arrived[-1] > 1.1


def test_a_stopped_process_goes_on_even_after_an_error(server):
    pid = server.pids["engine-0"]
    with pytest.raises(KeyError), stopped(server):
        assert proc.read_process(pid).state == "T"
        raise KeyError
    assert proc.read_process(pid).state != "T"


def test_counters_grow_by_what_the_clients_ask_and_present_are_those_that_ask(server):
    async def work(asker):
        while True:
            await asker.ask(20)

    window = asyncio.run(watch(server, work, clients=2 * ROWS, seconds=1))
    count = window.grown["vllm:e2e_request_latency_seconds_count"]
    tokens = window.grown["vllm:generation_tokens_total"]
    assert window.seconds >= 0.9 and count > 4
    assert 0.5 * count * 20 < tokens < 2 * count * 20
    assert ROWS < window.present <= 2 * ROWS


def test_an_error_of_the_work_is_raised(server):
    async def work(asker):
        raise LookupError("no such work")

    with pytest.raises(LookupError, match="no such work"):
        asyncio.run(watch(server, work, clients=2, seconds=0.2))


def test_all_that_ask_at_once_are_found_in_the_queue_in_their_order(server):
    lengths = [30, 3, 3, 3] * 3
    found = asyncio.run(ask_at_once(server, lengths))
    assert 3 * 30 <= found["steps"] < 3 * 30 + 20  # the answer that was under way has a few more
    assert found["tokens"] == sum(lengths) and len(found["ended"]) == len(lengths)
    assert found["seconds"] == max(found["ended"])
    longest = [found["ended"][place] for place in (0, 4, 8)]
    assert longest == sorted(longest)
    assert all(max(found["ended"][1:4]) < longest[0] < min(found["ended"][place : place + 4]) for place in (4, 8))


def test_long_prompts_are_long_and_share_no_block(server):
    async def counted(number):
        async with askers(server, 1) as (asker,):
            await asker.ask(1, prompt=long_prompt(number))

    before = read_metrics(server)
    for number in (0, 1):
        asyncio.run(counted(number))
    after = read_metrics(server)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert 2 * 1800 < grown["vllm:prompt_tokens_total"] < 2 * 2000
    assert grown["vllm:prefix_cache_hits_total"] == 0


# ---- the time of a token ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traced():
    """A server with a trace, whose every step takes 4 ms."""
    with paced_server(4, rows=ROWS, trace=True) as started:
        yield started


def test_the_stages_of_a_token_follow_one_another_and_computing_takes_the_step(traced):
    async def asked():
        async with askers(traced, 2) as crowd:
            return await asyncio.gather(*(asker.ask(33) for asker in crowd))

    answers = asyncio.run(asked())
    told = time_of_a_token(traced.trace, answers)
    assert tuple(told) == TOKEN_STAGES and min(told.values()) >= 0
    requests = traced.trace.requests([answer.id for answer in answers])
    steps = [share.step for request in requests for share in request.sequences[0].steps[1:]]
    assert len(steps) == 2 * 32
    assert told["computed"] == pytest.approx(median(step.ran_at - step.scheduled_at for step in steps))
    assert told["scheduled"] == pytest.approx(median(step.scheduled_at - step.at for step in steps))


def test_an_answer_of_one_token_has_no_further_ones(traced):
    async def asked():
        async with askers(traced, 1) as (asker,):
            return [await asker.ask(1)]

    with pytest.raises(LookupError, match="got no answer of several tokens with text in each"):
        time_of_a_token(traced.trace, asyncio.run(asked()))
