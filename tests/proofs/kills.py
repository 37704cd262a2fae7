"""100 SIGKILLs of random roles at random moments, start-up included, while streaming: what is left."""

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.kill_trial import ROLES, Streams, command, find, living, wait_until_gone
from tests.proofs import Row
from tests.running_server import launched

TRIALS = 100
PROMISED = 1.0  # seconds until nothing of the server runs


def one(chance: random.Random, runtime: Path) -> tuple[str, float, list[str], list[str]]:
    """A server whose temporary folder is `runtime`; (role and moment, seconds, processes left, files left)."""
    role = chance.choice(ROLES)
    before = set(runtime.iterdir())
    with launched(data_parallel_size=2, env={"TMPDIR": str(runtime)}) as (process, ready, log, directory):
        streams = None
        if chance.random() < 0.5:  # while starting: a real start takes about 2 s
            select.select([ready], [], [], chance.uniform(0, 2))
            moment = "starting"
        else:
            line = ready.readline()
            assert line, log.read_text()
            streams = Streams(line.split('"url": "')[1].split('"')[0], 4)
            select.select([ready], [], [], chance.uniform(0, 0.5))
            moment = "streaming"
        pid = find(role, directory)
        if pid is None:  # not there yet: whoever is
            pid = chance.choice(living(directory))
            role = command(pid)[-40:] or "?"
        os.kill(pid, signal.SIGKILL)
        if "tracker" in role or "api-" in role:  # nobody needs it, or another comes: ask the server to stop
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        outcome = wait_until_gone(directory, 10.0)
        if streams:
            streams.join()
        process.wait()
        killed_launcher = process.returncode == -signal.SIGKILL
    left = set(runtime.iterdir()) - (set() if killed_launcher else before)
    files = [] if killed_launcher else [str(path) for path in left]
    stale = [str(path) for path in before if path.exists() and not killed_launcher]
    return f"{role}, {moment}", outcome.seconds, outcome.left, files + stale


def prove(trials: int = TRIALS, seed: int | None = None) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    chance = random.Random(seed)
    slowest, processes, files = (0.0, ""), [], []
    with tempfile.TemporaryDirectory(prefix="lk-") as runtime:
        for trial in range(trials):
            what, seconds, left, lying = one(chance, Path(runtime))
            slowest = max(slowest, (seconds, what))
            processes += left
            files += lying
            print(f"  {trial + 1:3} {what}: {seconds:.2f} s {left or ''} {lying or ''}", file=sys.stderr, flush=True)
    told = f"{len(processes)} processes, slowest {slowest[0]:.2f} s ({slowest[1]}), seed {seed}"
    return [
        Row(f"{trials} random SIGKILLs: 0 processes left within 1 s", told, not processes and slowest[0] <= PROMISED),
        Row(
            "0 files and sockets left, but after a kill of the launcher, which the next start sweeps",
            f"{len(files)} left",
            not files,
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    begun = time.monotonic()
    for row in prove(given.trials, given.seed):
        print(row)
    print(f"{time.monotonic() - begun:.0f} s")
