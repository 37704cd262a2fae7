"""Latencies of known timings, by hand."""

import pytest

from lab_support.instruments.load import latency
from lab_support.instruments.load.latency import COMPLETED, HUNG_UP, RequestRecord, distribution, percentile


def record(*token_times: float, due=10.0, started=10.0, ended=13.0, outcome=COMPLETED) -> RequestRecord:
    return RequestRecord(due, started, ended, token_times, len(token_times), outcome)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (10, 1), (11, 2), (50, 5), (90, 9), (99, 10), (100, 10)])
def test_percentiles_are_nearest_rank(percent, expected):
    assert percentile(range(1, 11), percent) == expected


def test_a_distribution_keeps_n_and_the_ends():
    values = distribution([0.3, 0.1, 0.2])
    assert (values.n, values.p50, values.max) == (3, 0.2, 0.3)
    assert values.mean == pytest.approx(0.2)
    assert (len(values.quantiles), values.quantiles[0], values.quantiles[100]) == (101, 0.1, 0.3)


def test_nothing_has_a_distribution_too():
    assert distribution([]).n == 0


def test_time_to_first_token_counts_from_due_not_from_sent():
    assert latency.times_to_first_token([record(12.5, due=10.0, started=12.0)]) == [2.5]


def test_inter_token_gaps_never_span_two_requests():
    records = [record(11.0, 11.25, 11.5), record(20.0), record()]
    assert latency.inter_token_latencies(records) == [0.25, 0.25]


def test_end_to_end_leaves_out_who_hung_up():
    records = [record(11.0, ended=12.0), record(11.0, ended=10.5, outcome=HUNG_UP)]
    assert latency.end_to_end_latencies(records) == [2.0]


def test_lateness_is_the_generators_own():
    assert latency.latenesses([record(due=10.0, started=10.25)]) == [0.25]
