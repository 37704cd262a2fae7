"""The three limits, computed by hand for an H200 and for two cores."""

import pytest

from lab_support.instruments.ceilings import (
    CORES,
    FRONT_ENDS,
    MOST,
    PACE,
    Costs,
    api_servers_needed,
    knee,
    limits,
    lowest,
    with_api_servers,
)

DEAR = Costs(loop=50.0, front_end=52.0, engine_core=20.0, client=8.0)


@pytest.mark.parametrize(
    ("pace", "api_servers", "cores", "which", "rate"),
    [
        (8_000, 1, 2, PACE, 8_000),
        (24_000, 1, 2, FRONT_ENDS, 20_000),
        (24_000, 2, 2, PACE, 24_000),
        (50_000, 2, 2, CORES, 25_000),
        (50_000, 2, 64, FRONT_ENDS, 40_000),
    ],
)
def test_the_lowest_limit_binds(pace, api_servers, cores, which, rate):
    assert lowest(limits(pace, api_servers, DEAR, cores)) == (which, pytest.approx(rate))


def always(costs):
    return lambda api_servers: costs


def test_a_front_end_saturates_where_its_loop_works_all_the_time():
    """On the recorded H200 a token took 14 µs: at 72 thousand tokens/s, one loop is full."""
    costs = always(Costs(loop=1e6 / 72_000, front_end=14.0, engine_core=5.0, client=0.0))
    assert knee(72_000, costs, cores=64) == pytest.approx(1.0)
    assert [api_servers_needed(pace, costs, 64) for pace in (22_000, 71_900, 73_000, 150_000)] == [1, 1, 2, 3]


def test_the_cores_move_the_knee_down():
    assert knee(100_000, always(DEAR), cores=2) == pytest.approx(25_000 * 50e-6)
    assert api_servers_needed(100_000, always(DEAR), cores=2) == 2
    assert api_servers_needed(1e12, always(DEAR), cores=1e12) == MOST


def test_dearer_tokens_move_the_knee_up():
    """At 50 µs for a token, 30,000 tokens/s would need one and a half; but two need 60 µs each."""
    costs = {1: DEAR, 2: Costs(60.0, 63.0, 22.0, 8.0)}
    found = knee(30_000, lambda number: with_api_servers(costs[1], costs[2], 2, number), cores=64)
    assert found == pytest.approx(30_000 * (50 + 10 * (found - 1)) / 1e6) and 1.7 < found < 1.8


def test_two_measurements_tell_the_cost_with_any_number():
    """Each further API server makes each step's message a smaller one, and adds the same cost to each token."""
    two = Costs(loop=60.0, front_end=63.0, engine_core=22.0, client=8.0)
    assert with_api_servers(DEAR, two, 2, 1) == with_api_servers(DEAR, two, 2, 0.5) == DEAR
    assert with_api_servers(DEAR, two, 2, 2) == two
    assert with_api_servers(DEAR, two, 3, 2) == Costs(loop=55.0, front_end=57.5, engine_core=21.0, client=8.0)
    assert with_api_servers(DEAR, two, 2, 4) == Costs(loop=80.0, front_end=85.0, engine_core=26.0, client=8.0)


def test_a_cheaper_second_measurement_makes_nothing_free():
    """Noise must not make a cost vanish or go below zero."""
    cheaper = Costs(loop=20.0, front_end=21.0, engine_core=10.0, client=4.0)
    assert with_api_servers(DEAR, cheaper, 2, 8) == cheaper


def test_where_it_comes_out_even_as_many_are_enough() -> None:
    """Five event loops carry 125,000 tokens/s, and so do eight cores."""
    assert api_servers_needed(300_000, lambda _: Costs(40, 40, 24, 0), cores=8) == 5
    assert api_servers_needed(40_000, lambda _: Costs(50, 50, 25, 0), cores=64) == 2
