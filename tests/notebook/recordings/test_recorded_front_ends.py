"""The figures of the recorded H200 that notebook 08 states, computed from the recording."""

import pytest

from lab_support.instruments.record import recordings
from lab_support.notebook.recordings import front_ends

RUN = recordings.load(front_ends.RECORDING)


def test_more_api_servers_brought_hardly_more_because_the_engine_core_was_at_work():
    found = front_ends.front_ends(RUN)
    assert [each.api_servers for each in found] == [1, 2, 4]
    assert [round(each.tokens_per_second / 1000, 1) for each in found] == [22.3, 20.2, 24.5]
    assert [round(each.in_steps, 2) for each in found] == [0.78, 0.87, 0.95]
    assert front_ends.hardly_faster(RUN)


def test_one_api_server_carries_eight_times_the_pace_of_8b_and_half_of_the_pace_of_the_model_in_the_box():
    us = front_ends.us_per_token(RUN)
    assert round(us) == 14 and 1e6 / us == pytest.approx(72_000, rel=0.02)
    assert front_ends.front_ends(RUN)[0].tokens_per_second * us / 1e6 == pytest.approx(0.31, abs=0.01)
    assert front_ends.pace(RUN, "8B", 512) == pytest.approx(9_000, rel=0.02)
    assert front_ends.pace(RUN, "8B", 4096) == pytest.approx(4_650, rel=0.02)
    assert front_ends.pace(RUN, "box", 512) == pytest.approx(138_000, rel=0.02)


def test_what_was_not_recorded_is_named():
    with pytest.raises(LookupError, match="'70B'"):
        front_ends.pace(RUN, "70B", 512)
