"""Front ends before the same engine core, as a table: `python -m tests.benchmarks.front_ends`.

Our API servers × 1, 2, 4, vLLM's front end in Rust × 1, 2 (VLLM_RUST_FRONTEND_PATH), and vLLM's API servers in Python
× 1, 2 (--environments FOLDER, as `tests.benchmarks.peers` installs vllm; before vLLM's own engine core on the CPU):
CPU time of a request and of a streamed token, memory (PSS), latencies, requests of one token a second. Before the
engine core on the CPU, and before a stand-in for a GPU. `vllm-rs bench serve` and `lab load` ask all of them.

CPU time can be measured on a busy machine, roughly; the latencies and requests/s need an idle one. With many clients
`lab load` takes more CPU than the front end, and on few cores its figures are then its own. Nothing is left running.
"""

import argparse
import os
import sys
from pathlib import Path

from lab_support.instruments.record import recorder, recordings
from lab_support.instruments.record.recorder import Experiment
from tests.benchmarks.front_ends.front_ends import CLIENTS, REQUESTS
from tests.benchmarks.front_ends.table import table
from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.environments import ENVIRONMENTS

EXPERIMENT = Experiment(
    18,
    "front_ends",
    "What does a front end cost for a token and for a request?",
    3600,
    60,
    (recorder.MEMORY,),
    with_driver=False,
    with_torch=False,
    with_server=True,
    package="tests.benchmarks.front_ends",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="where vLLM's CPU build is installed")
    parser.add_argument("--only", default="", metavar="NAMES", help="these front ends, with commas between them")
    parser.add_argument("--engines", default="", metavar="NAMES", help="before these engines: cpu, paced")
    parser.add_argument("--clients", default=CLIENTS, metavar="NUMBERS", help="of clients at once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for long answers; at least two of each client")
    parser.add_argument("--seconds", type=float, default=EXPERIMENT.seconds, help="deadline of all")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="also write FOLDER/front_ends.json")
    given = parser.parse_args()
    if given.record and not given.record.is_dir():
        parser.error(f"--record: got {given.record}, expected a folder")
    if given.environments:
        os.environ[ENVIRONMENTS] = str(given.environments.absolute())
    words = [f"--{name}={getattr(given, name)}" for name in ("only", "engines", "clients", "rounds", "requests")]
    try:
        with nothing_left():
            run = recorder.run_experiment(EXPERIMENT, recorder.look_at_this_machine(), given.seconds, words=words)
    except KeyboardInterrupt:
        return INTERRUPTED
    print(table(run))
    print(run.errors, end="", file=sys.stderr)
    if given.record:
        (given.record / "front_ends.json").write_text(recordings.to_json(run))
    return int(not run.complete)


if __name__ == "__main__":
    sys.exit(main())
