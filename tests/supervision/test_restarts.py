"""The delay until the next try, and when there is none."""

from lab_support.supervision.restarts import LONGEST_PAUSE, WINDOW, Restarts


def test_deaths_are_mended_with_growing_pauses_up_to_the_limit() -> None:
    restarts = Restarts(4)
    assert [restarts.died(0, 100.0) for _ in range(5)] == [100.0, 100.25, 100.5, 101.0, None]
    assert restarts.died(1, 100.0) == 100.0  # places are counted apart


def test_what_is_longer_ago_than_the_window_is_forgotten() -> None:
    restarts = Restarts(1)
    assert restarts.died(0, 100.0) == 100.0
    assert restarts.died(0, 100.0 + WINDOW) == 100.0 + WINDOW


def test_one_that_does_not_become_ready_is_tried_again_without_an_end() -> None:
    restarts = Restarts(1)
    pauses = [restarts.failed(0, 0.0) for _ in range(2000)]
    assert pauses[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert set(pauses[5:]) == {LONGEST_PAUSE}
    restarts.succeeded(0)
    assert restarts.failed(0, 0.0) == 0.25
