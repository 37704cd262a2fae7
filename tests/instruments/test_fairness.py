"""Evenness of shares, and the results of chance alone."""

import pytest

from lab_support.instruments.fairness import fair_draw, gini


def test_even_shares_have_none_and_one_taker_of_four_has_three_quarters():
    assert gini([50, 50, 50, 50]) == pytest.approx(0)
    assert gini([0, 200, 0, 0]) == pytest.approx(0.75)
    assert gini([]) == gini([0, 0]) == 0


def test_it_does_not_depend_on_the_order_or_the_size():
    assert gini([1, 2, 3, 4]) == pytest.approx(gini([40, 10, 30, 20]))


def test_a_fair_draw_is_uneven_and_the_more_connections_the_less():
    few, many = fair_draw(4, 20), fair_draw(4, 2000)
    assert 0 < many.gini < many.most < few.gini < few.most < 0.75
    assert many.busiest >= 500
