"""Nobody's death harms a neighbour: `python -m tests.proofs.deaths`, about a quarter of an hour.

16 clients stream all the time, and every whole answer is compared with the reference, byte for byte.

- kills: SIGKILL for API servers (first ones, replaced ones, retiring ones) and SIGUSR1, in random order at random
  moments, under each strategy of --accept in turn.
- shortages: a kill or a roll while the launcher or an API server has no descriptor left, or while no process can be
  made; then it has room again, and the server is to go on as if nothing had been.
- replaced: SIGKILL for API servers that have replaced others, and no others.

The engine cores live through all of it, clients of the dead get an error event or a cut, nobody else notices, nothing
is held afterwards and nothing is left. Failures are printed with the actions before them; --seed repeats them.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable

from lab_support.config import ServerConfig
from tests.as_other_user import AS_OTHER_USER, OTHER_USER
from tests.besieged import Besieged, Report, besieged
from tests.proofs import Row

STRATEGIES = tuple(ServerConfig.__dataclass_fields__["accept"].metadata["choices"])
TRIALS = {"kills": 300, "shortages": 50, "replaced": 200}
API_SERVERS = 3
KILLS_A_SERVER = 12  # the more deaths in a minute in one place, the later the next API server comes
SHORTAGES_A_SERVER = 5


def kills(made: Besieged, count: int) -> None:
    for _ in range(count):
        made.wait(made.chance.uniform(0, 1.0))
        if made.chance.random() < 0.3:
            made.roll()
            made.wait(made.chance.uniform(0, 1.5))
        made.kill_when_there_is_one()


def replaced(made: Besieged, count: int) -> None:
    """First those that were there at first go."""
    for _ in range(API_SERVERS):
        made.kill_when_there_is_one({"first"})
    before = made.report.kills["replaced"]
    while made.report.kills["replaced"] < before + count and not made.ended():
        made.wait(made.chance.uniform(0, 0.5))
        made.kill_when_there_is_one({"replaced"})


def shortages(made: Besieged, count: int) -> None:
    for _ in range(count):
        if made.ended():
            return
        one_shortage(made)
        made.until("the server is whole again", lambda: len(made.api_servers()) >= API_SERVERS)


def one_shortage(made: Besieged) -> None:
    chance, api_servers = made.chance, sorted(made.api_servers())
    starved = chance.choice([made.server.process.pid, *api_servers[:1]])
    what = "processes" if is_other_user(starved) and chance.random() < 0.5 else "descriptors"
    limited = made.few_processes(starved) if what == "processes" else made.few_descriptors(starved, chance.randrange(8))
    with limited:
        made.wait(chance.uniform(0, 0.2))
        if chance.random() < 0.5:
            made.roll()
        else:
            made.kill()
        made.wait(chance.uniform(0.1, 1.5))
    made.report.shortages[what] += 1


def is_other_user(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == OTHER_USER
    except FileNotFoundError:
        return False


KINDS: dict[str, tuple[Callable[[Besieged, int], None], int]] = {
    "kills": (kills, KILLS_A_SERVER),
    "shortages": (shortages, SHORTAGES_A_SERVER),
    "replaced": (replaced, KILLS_A_SERVER),
}


def siege(kind: str, trials: int, strategies: tuple[str, ...], chance: random.Random) -> Report:
    """So many trials, on as many servers as that takes."""
    do, batch = KINDS[kind]
    report = Report()
    for number, begin in enumerate(range(0, trials, batch)):
        strategy = strategies[number % len(strategies)]
        other_user = kind == "shortages" and os.geteuid() == 0 and number % 2 == 1
        choices: dict[str, object] = {"program": AS_OTHER_USER} if other_user else {}
        known = len(report.failures)
        with besieged(
            report, chance, strategy, api_server_count=API_SERVERS, api_server_restart_limit=10000, **choices
        ) as made:
            do(made, min(batch, trials - begin))
        for what, seen in report.failures[known:]:
            print(f"  FAILED ({what}): {seen}", file=sys.stderr, flush=True)
        done = f"{begin + batch} of {trials}, {dict(report.kills)}, {report.rolls} rolls, {dict(report.reads)}"
        print(f"  {kind} --accept {strategy}: {done}", file=sys.stderr, flush=True)
    return report


def rows(kind: str, report: Report, told: str) -> list[Row]:
    killed = ", ".join(f"{count} {name}" for name, count in sorted(report.kills.items()))
    did = f"{report.kills.total()} kills ({killed}), {report.rolls} rolls{told}"
    dead = report.of("engine core", "server")
    streams = ", ".join(f"{count} {how}" for how, count in sorted(report.reads.items()))
    bad = report.of("different", "unexpected")
    left = [kind for kind, _ in report.failures if kind in {"afterwards", "left", "traceback"}]
    return [
        Row(f"{kind}: {did}: engine cores and servers that died", str(dead), not dead),
        Row(f"{kind}: every stream is whole, or its API server was killed", streams, not bad),
        Row(f"{kind}: afterwards all serve, nothing is held, nothing is left", f"{len(left)} failures", not left),
    ]


def prove(
    trials: dict[str, int] | None = None, seed: int | None = None, strategies: tuple[str, ...] = STRATEGIES
) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    found = []
    for kind, count in (trials or TRIALS).items():
        chance = random.Random(f"{seed} {kind}")
        report = siege(kind, count, strategies, chance)
        short = f", {dict(report.shortages)} ran out" if kind == "shortages" else ""
        as_root = ", processes never: not root" if kind == "shortages" and os.geteuid() else ""
        found += rows(kind, report, f"{short}{as_root}, seed {seed}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, help="of each kind")
    parser.add_argument("--only", default=",".join(TRIALS), help="kinds, separated by commas")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    begun = time.monotonic()
    asked = {kind: given.trials or TRIALS[kind] for kind in given.only.split(",")}
    outcome = prove(asked, given.seed, tuple(given.strategies.split(",")))
    for row in outcome:
        print(row)
    print(f"{time.monotonic() - begun:.0f} s")
    sys.exit(0 if all(row.met for row in outcome) else 1)
