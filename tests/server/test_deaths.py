"""API servers die and are rolled under streams: the full counts are in `python -m tests.proofs.deaths`."""

import random

import pytest

from tests.besieged import Report, besieged
from tests.proofs.pytests import in_full

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("strategy", "kills", "rolls"), [("least-loaded", 8, 1), pytest.param("handoff", 4, 1, marks=in_full)]
)
def test_nobody_but_the_clients_of_the_dead_notices_a_death_or_a_roll(strategy: str, kills: int, rolls: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance, report = random.Random(seed), Report()
    deeds = ["kill"] * (kills - 1) + ["roll"] * rolls
    chance.shuffle(deeds)
    with besieged(report, chance, strategy, api_server_count=3, api_server_restart_limit=1000) as made:
        assert made.kill_the_server_of_a_stream() in {"cut", "error event"}
        for deed in deeds:
            made.wait(chance.uniform(0, 0.5))
            if deed == "roll":
                made.roll()
            else:
                made.kill_when_there_is_one()
        made.until("a stream is whole", lambda: any(read.how == "whole" for read in made.readers.reads.copy()))
    assert report.failures == [], (seed, "\n".join(seen for _, seen in report.failures))
    assert (report.kills.total(), report.rolls) == (kills, rolls)
    assert report.reads["whole"] > 0
