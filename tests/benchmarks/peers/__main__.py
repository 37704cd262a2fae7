"""Other servers beside ours as a table: `python -m tests.benchmarks.peers --environments FOLDER`.

LitServe, mosec, uvicorn workers with a model each, transformers' own server, vLLM's CPU build, and this server: seconds
from the command to the first answer, memory (PSS of all processes), tokens/s, time to first token, inter-token
latency. All serve data/model, one client asks all of them, each is measured twice, in one order and then in the other.

A peer lives in an environment of its own, a folder in FOLDER, and in no list of requirements:

    python -m tests.benchmarks.peers --environments FOLDER --install mosec        (1 to 3 GB each; minutes)

One that isn't installed is a row that says so. All listen on 127.0.0.1. Nothing is left running, however it ends.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from lab_support.instruments.record import recorder, recordings
from lab_support.instruments.record.recorder import Experiment
from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.recordings.peers import table
from tests.benchmarks.peers import install
from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.environments import ENVIRONMENTS

EXPERIMENT = Experiment(
    17,
    "peers",
    "How do other servers do with the same model and client?",
    465,
    60,
    (recorder.MEMORY,),
    with_driver=False,
    with_torch=False,
    with_server=True,
    package="tests.benchmarks.peers",
)


def run(only: str, rounds: int, requests: int, seconds: float) -> Recording:
    words = [f"--only={only}", f"--rounds={rounds}", f"--requests={requests}"]
    return recorder.run_experiment(EXPERIMENT, recorder.look_at_this_machine(), seconds, words=words)


def installed(names: list[str], environments: Path) -> int:
    """Installs each; the exit code."""
    for name in names:
        try:
            install.install(name, environments)
        except subprocess.CalledProcessError as error:
            words = " ".join(map(str, error.cmd[:6]))
            print(f"{name} is not installed, because `{words} …` ended with code {error.returncode}")
            return 1
        print(f"{name} is installed in {environments / name}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="where the peers' environments are")
    parser.add_argument("--install", action="append", default=[], metavar="NAME", choices=install.installable())
    parser.add_argument("--only", default="", metavar="NAMES", help="these peers, with commas between them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=0, help="of the load; by default as many as last some seconds")
    parser.add_argument("--seconds", type=float, default=EXPERIMENT.seconds, help="deadline of all")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="also write FOLDER/peers.json, as `lab record`")
    given = parser.parse_args()
    if given.record and not given.record.is_dir():
        parser.error(f"--record: got {given.record}, expected a folder")
    if given.environments:
        os.environ[ENVIRONMENTS] = str(given.environments.absolute())
    if given.install:
        return installed(given.install, given.environments or parser.error("--install needs --environments FOLDER"))
    try:
        with nothing_left():
            recording = run(given.only, given.rounds, given.requests, given.seconds)
    except KeyboardInterrupt:
        return INTERRUPTED
    print(table(recording))
    print(recording.errors, end="", file=sys.stderr)
    if given.record:
        (given.record / "peers.json").write_text(recordings.to_json(recording))
    return int(not recording.complete)


if __name__ == "__main__":
    sys.exit(main())
