"""`lab watch` on our server with 12 processes: its cost, and how soon kills and rolls are in the page."""

import statistics

from tests.in_jupyterlab import CHROMIUM
from tests.proofs import Row
from tests.proofs.watch import measures

_SECONDS = 20.0
_MOST_OF_A_CORE, _MOST_MILLISECONDS = 0.05, 500.0


def prove() -> list[Row]:
    asked = "lab watch takes under 5 % of a core at 12 processes, without a load and while 16 clients ask"
    if CHROMIUM is None:
        return [Row(asked, "no chromium on PATH", False)]
    with measures.shown() as (server, watching, page):
        idle, busy = measures.cost(watching, _SECONDS), measures.cost_under_load(page, watching)
        kills = [measures.kill_and_see(page, server, index) for index in range(measures.API_SERVERS)]
        births = measures.roll_and_see(page, server)
    return [
        Row(asked, f"{idle:.1%} and {busy:.1%}", max(idle, busy) < _MOST_OF_A_CORE),
        _soon("a killed API server is told in the page within half a second", kills),
        _soon("so is each new API server of a roll, counted from its birth", births),
    ]


def _soon(asked: str, delays: list[float]) -> Row:
    """delays: in milliseconds."""
    middle, most = statistics.median(delays), max(delays)
    return Row(asked, f"median {middle:.0f} ms, at most {most:.0f} (n = {len(delays)})", most < _MOST_MILLISECONDS)
