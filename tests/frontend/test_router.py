"""The choice of the engine core for the next request: vLLM's score."""

from collections import Counter

from lab_support.boundary.messages import EngineLoad
from lab_support.frontend.routing.router import Router


def test_without_news_the_requests_go_round() -> None:
    router = Router(engine_count=3, client_index=0, client_count=2)
    assert [router.choose() for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_api_servers_begin_at_different_engine_cores() -> None:
    assert [Router(4, index, 4).choose() for index in range(4)] == [0, 1, 2, 3]


def test_the_least_loaded_one_is_chosen() -> None:
    router = Router(engine_count=3, client_index=0, client_count=1)
    router.update([EngineLoad(0, 9), EngineLoad(0, 2), EngineLoad(5, 0)])
    assert router.choose() == 1


def test_what_was_sent_since_the_last_news_counts() -> None:
    router = Router(engine_count=2, client_index=0, client_count=1)
    router.update([EngineLoad(0, 0), EngineLoad(0, 4)])
    assert Counter(router.choose() for _ in range(4)) == {0: 4}
    assert Counter(router.choose() for _ in range(4)) == {0: 2, 1: 2}


def test_requests_that_ended_count_no_more() -> None:
    router = Router(engine_count=2, client_index=0, client_count=1)
    for _ in range(4):
        router.choose(wanted=0)
    for _ in range(4):
        router.done(0)
    router.update([EngineLoad(0, 0), EngineLoad(0, 1)])
    assert router.choose() == 0


def test_waiting_weighs_more_where_the_kv_cache_is_full() -> None:
    router = Router(engine_count=2, client_index=0, client_count=1)
    router.update([EngineLoad(2, 2, kv_cache_usage=0.9), EngineLoad(2, 5, kv_cache_usage=0.2)])
    assert router.choose() == 1
