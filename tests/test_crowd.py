"""More connections than descriptors, none of which asks for anything: `python -m tests.proofs.crowds` in small."""

import pytest

from lab_support.frontend.http_head import HEAD_SECONDS
from tests.crowd import CLOSING, ask, crowd
from tests.departures import completion
from tests.running_server import running_server
from tests.test_limits import descriptors


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["shared", "least-loaded", "reuseport", "handoff"])
def test_who_asks_for_nothing_makes_way_for_who_does(strategy: str) -> None:
    """At once, and not only when its time is up; and nobody is answered less for having been there before it."""
    with running_server(program=descriptors(128), accept=strategy, log_level="warning") as server:
        host, port = server.url.removeprefix("http://").rsplit(":", 1)
        address = (host, int(port))
        with crowd(address, {"slow": 100, "silent": 100, "idle": 100}):
            asked = [CLOSING] * 10 + [completion("connection: close", max_tokens=1)] * 2
            answers = [ask(address, request) for request in asked]
        assert [answer[9:12] for answer, _ in answers] == [b"200"] * len(asked)
        assert max(seconds for _, seconds in answers) < HEAD_SECONDS / 2
        assert "Traceback" not in server.said()
