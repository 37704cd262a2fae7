"""Chooses the engine core for a request: the one with the lowest score, computed as in vLLM.

Each API server chooses by itself, from its own requests in flight and from the loads that the coordinator publishes.
The loads are up to 100 ms old and don't include the latest requests of any API server. So the number of this API
server's requests in flight, times the number of API servers, is taken as a lower bound, because it assumes that the
others have as many. (vLLM 0.33.0: v1/engine/core_client.py, DPLBAsyncMPClient.)
"""

from lab_support.boundary.messages import EngineLoad


class Router:
    """Counts requests in flight and chooses engine cores. Runs in an API server."""

    def __init__(self, engine_count: int, client_index: int, client_count: int) -> None:
        self._client_count = client_count
        self._in_flight = [0] * engine_count
        self._loads = [EngineLoad()] * engine_count
        self._sent_since = [0] * engine_count  # times client_count, as the others are assumed to send as many
        # API servers begin their search at different engine cores, so that they don't all pick the same one first.
        self._first = engine_count * client_index // client_count

    def update(self, loads: list[EngineLoad]) -> None:
        """New loads from the coordinator, by engine core."""
        self._loads = loads
        self._sent_since = [0] * len(loads)

    def choose(self, wanted: int | None = None) -> int:
        """The index of the engine core for a new request, and count it as sent. `wanted` overrides the score."""
        count = len(self._in_flight)
        chosen = wanted
        if chosen is None:
            chosen = min(((self._first + i) % count for i in range(count)), key=self._score)
            self._first = (chosen + 1) % count
        self._in_flight[chosen] += 1
        self._sent_since[chosen] += self._client_count
        return chosen

    def done(self, engine_index: int) -> None:
        """A request that was sent to this engine core has ended."""
        self._in_flight[engine_index] -= 1

    def _score(self, engine_index: int) -> float:
        load = self._loads[engine_index]
        waiting = load.waiting + self._sent_since[engine_index]
        score = max(self._client_count * self._in_flight[engine_index], waiting + load.running)
        # Requests that wait for blocks wait longer the fuller the KV cache is.
        return score + (waiting * 6 * max(0.0, load.kv_cache_usage - 0.5))
