"""The three limits of a server in tokens per second, and where another API server stops helping. It measures nothing.

A server gives the least of three: the engine's pace; the number of API servers over an event loop's CPU time for a
token, because a loop runs in one thread; the cores over the CPU time that all processes together need for a token.

Taught in: 08_does_another_api_server_help
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

PACE, FRONT_ENDS, CORES = "the engine's pace", "the API servers", "the cores"
MOST = 64
"""API servers, beyond which nobody asks."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU time for each token. loop: of an API server's busiest thread, a part of `front_end`.

    front_end: of all API servers together. client: 0 if the clients run on another machine.
    """

    loop: float
    front_end: float
    engine_core: float
    client: float

    @property
    def all(self) -> float:
        return self.front_end + self.engine_core + self.client


CostsWith = Callable[[float], Costs]
"""The costs with so many API servers."""


def limits(pace: float, api_servers: float, costs: Costs, cores: float) -> dict[str, float]:
    """Tokens per second by what limits them. pace: rows of a step over its seconds. cores: those that are free."""
    return {PACE: pace, FRONT_ENDS: api_servers * 1e6 / costs.loop, CORES: cores * 1e6 / costs.all}


def lowest(found: dict[str, float]) -> tuple[str, float]:
    """The limit that binds, and its tokens per second. Of equal ones the first."""
    return min(found.items(), key=lambda each: each[1])


def knee(pace: float, costs: CostsWith, cores: float) -> float:
    """The number of API servers, with a fraction, from which on they are not the limit; at most `MOST`."""
    low, high = 0.0, float(MOST)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _too_few(pace, middle, costs, cores) else (low, middle)
    return high


def api_servers_needed(pace: float, costs: CostsWith, cores: float) -> int:
    """The fewest with which they are not the limit; at most `MOST`."""
    return next((number for number in range(1, MOST) if not _too_few(pace, number, costs, cores)), MOST)


def _too_few(pace: float, api_servers: float, costs: CostsWith, cores: float) -> bool:
    found = limits(pace, api_servers, costs(api_servers), cores)
    return found[FRONT_ENDS] < min(found[PACE], found[CORES])  # where it comes out even, they are enough


def with_api_servers(one: Costs, several: Costs, of: int, api_servers: float) -> Costs:
    """The costs with any number of API servers, by a straight line through those measured with one and with `of`.

    A step's tokens go to every API server in a message of its own, so each further one adds a message to each step:
    fewer tokens share the cost of a wake-up. Where several were measured as cheaper, more are no cheaper than those.
    api_servers may have a fraction; less than one costs as much for a token as one.
    """
    share = max(0.0, (api_servers - 1) / (of - 1))
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(several), strict=True)
    return Costs(*(first + (share if last > first else min(1.0, share)) * (last - first) for first, last in pairs))
