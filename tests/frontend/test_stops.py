"""No request stops the event loop for long: what it makes the loop compute in one go, in seconds of the CPU."""

import json
import time
from typing import Any

import pytest

from tests.fakes import FakeEngine
from tests.frontend.serving import FakeServer, serving

LONGEST = 0.2  # seconds; most of these took one or more, and take less than 0.04 where the machine is not slow
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def longest_stop(fake: FakeServer, path: str, body: bytes) -> float:
    """The loop's thread says between how much of its CPU time it came round. The least of three times."""
    stops = []
    for _ in range(3):
        ticker = Ticker(fake)
        fake.call(ticker.tick)
        fake.post(path, data=body, headers={"content-type": "application/json"})
        ticker.running = False
        stops.append(ticker.longest)
    return min(stops)


class Ticker:
    """Comes round in the server's event loop as often as it lets it."""

    def __init__(self, fake: FakeServer) -> None:
        self.running = True
        self.longest = 0.0
        self._fake = fake
        self._last = fake.call(time.thread_time)

    def tick(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if self.running and self._fake.loop:
            self._fake.loop.call_later(0.001, self.tick)


def filled(before: str, unit: str, after: str, size: int = 4_000_000) -> bytes:
    """A body of about `size` bytes."""
    return (before + ",".join([unit] * (size // (len(unit) + 1))) + after).encode()


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, filled('{"prompt":["', "Once upon a time", '"]}')),
        (COMPLETIONS, filled('{"prompt":[', "[]", "]}")),
        (COMPLETIONS, filled('{"prompt":[', "1", "]}", 1_000_000)),
        (COMPLETIONS, filled('{"prompt":[', "1.0", "]}", 2_000_000)),
        (COMPLETIONS, filled('{"prompt":"x","max_tokens":1.5,"y":[', '{"a":1}', "]}")),
        (COMPLETIONS, ('{"prompt":"x"' + "".join(f',"{n}":1' for n in range(200_000)) + "}").encode()),
        (COMPLETIONS, encoded(prompt=[[7] * 2000] * 64, n=16, max_tokens=1)),
        (COMPLETIONS, encoded(prompt="a", n=16, max_tokens=400, logprobs=20, ignore_eos=True)),
        (CHAT, filled('{"messages":[', '{"role":"user","content":"","tool_calls":[[]]}', "]}")),
        ("/tokenize", encoded(prompt="a b " * 65_000, return_token_strs=True)),
        ("/detokenize", encoded(tokens=[1000] * 262_144)),
    ],
    ids=range(11),
)
def test_one_request_stops_no_other_for_long(path: str, body: bytes) -> None:
    with serving(FakeEngine(step_seconds=0.001)) as fake:
        assert longest_stop(fake, path, body) < LONGEST
