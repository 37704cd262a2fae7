"""`lab record`: runs the experiments, or lists the recordings with their age and whether they are stale."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab_support.instruments.record import recorder
from lab_support.instruments.record.recordings import FOLDER, Recording, load_all


def add_record_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `lab record`."""
    parser.description = "Run the GPU experiments, each in fresh processes, and write their samples as JSON."
    every = recorder.EXPERIMENTS + recorder.ON_ANY_MACHINE
    names = [name for experiment in every for name in (experiment.name, str(experiment.number))]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="an experiment's name or number")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder, or FILE.tar (default: data/recordings)")
    parser.add_argument(
        "--list", action="store_true", help="list the recordings, their machines and ages, and which are stale"
    )
    parser.add_argument("--budget", type=float, default=recorder.BUDGET_SECONDS, help="seconds in all (default: 480)")
    parser.add_argument("--commit", default="", help="the server's commit, if this copy is not a git repository")


def run_record_command(arguments: argparse.Namespace) -> int:
    """`lab record`: 0; 1 if an experiment failed, or one named by --only can't run here."""
    if arguments.list:
        folder = arguments.out if arguments.out.suffix != ".tar" else FOLDER
        print(listing(load_all(folder), recorder.EXPERIMENTS + recorder.ON_ANY_MACHINE))
        return 0
    return recorder.record(arguments.only or [], arguments.out, arguments.budget, arguments.commit)


def listing(recordings: list[Recording], experiments: Any) -> str:
    """A table of all experiments and their recordings, if any, and of recordings of other programs' experiments.

    experiments: have a number and a name.
    """
    there = {recording.name: recording for recording in recordings}
    numbers = {one.name: one.number for one in (*recordings, *experiments)}
    lines = [_row(number, name, there.get(name)) for name, number in sorted(numbers.items(), key=lambda each: each[1])]
    return "\n".join(lines)


def _row(number: int, name: str, recording: Recording | None) -> str:
    if recording is None:
        return f"{number:>3}  {name:24}no recording"
    days = (datetime.now(UTC) - datetime.fromisoformat(recording.date)).days
    where = recording.machine
    notes = ["stale: the experiment has changed"] if recording.is_stale else []
    notes += ["older server"] if recording.is_of_older_server else []
    notes += [f"sandboxed kernel {where.sandbox}"] if where.sandbox else []
    facts = [recording.outcome, where.gpu or "no GPU", f"torch {where.torch}", recording.date[:10], f"{days} days old"]
    return f"{number:>3}  {name:24}{' · '.join([*facts, *notes])}"
