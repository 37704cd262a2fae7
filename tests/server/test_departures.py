"""Clients that leave a real server in every way, among readers.

`python -m tests.proofs.departures` has 2,000 of them under each accept strategy.
"""

import pytest

from tests.departures import kinds, shuffled, trial
from tests.running_server import running_server


@pytest.mark.slow
def test_nobody_notices_who_leaves() -> None:
    departures = shuffled(len(kinds()), seed=0)
    with running_server() as server:
        done = trial(server, departures, readers=8, at_once=4)
        assert done.neighbours.wrong == []
        assert done.neighbours.whole >= 8
        assert done.ends == {"left": len(departures)}
        assert not any(done.left.values()), done.left
