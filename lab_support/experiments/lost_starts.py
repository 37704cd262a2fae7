"""15. Probe a free port, close it, and let a child bind it later: how many starts are lost, by launchers at once?

Needs no GPU: it runs on any Linux machine, as any user. The kernel chooses among 200 ports, which takes Linux 6.3.
ports/race.py is the race. One sample for each race of 200 starts.
"""

import socket
import sys

from lab_support.experiments.ports.port_range import PortRange
from lab_support.experiments.ports.race import race
from lab_support.experiments.program import emit, start

LAUNCHERS = (1, 2, 4, 8, 16)
REPEATS = 8
PORTS = PortRange.of(200)


def main() -> int:
    options = start(__doc__ or "", repeats=REPEATS)
    drawn: set[str] = set()
    for _ in range(options.repeats):
        for launchers in LAUNCHERS:
            found = race(launchers, probe, bind, starts=200)
            drawn |= set(found["addresses"])
            emit("race", **{key: found[key] for key in ("launchers", "starts", "lost", "came")})
    emit("ports", narrow=PORTS.narrow, range=PORTS.count, drawn=len(drawn))
    return 0


def probe() -> tuple[str, int]:
    """Runs in a launcher: find a free port, and let go of it."""
    with PORTS.bind() as sock:
        host, port = sock.getsockname()
        return host, port


def bind(host: str, port: int) -> socket.socket:
    """Runs in its child."""
    return socket.create_server((host, port))


if __name__ == "__main__":
    sys.exit(main())
