"""`lab.start("04")`: the first cell of a notebook. It says what the machine is and what it can't show live."""

import os
from collections.abc import Sequence

from IPython import get_ipython

from lab_support import doctor
from lab_support.instruments.record import recordings
from lab_support.notebook.cells import magic
from lab_support.notebook.moves import blanks
from lab_support.notebook.page.record import NOTEBOOK


def start(number: str, *, experiments: Sequence[str] = ()) -> None:
    """Print the machine's facts for the notebook `number`, "00" to "11"; make `%%python_process` known.

    experiments: names of GPU experiments (`lab record --list`) that the notebook shows; lines say whether
    they are measured here or recorded on which machine and when. The number is remembered for the reader's record.
    """
    shell = get_ipython()  # type: ignore[no-untyped-call]
    if shell is not None:
        magic.load(shell, blanks.fill)
    os.environ[NOTEBOOK] = number
    machine = doctor.examine()
    print(doctor.one_line(machine))
    for lack in doctor.losses(machine, number):
        print(f"This machine has {lack}.")
    where: dict[str, list[str]] = {}
    for name in experiments:
        where.setdefault(_where_measured(name, here=machine.gpus > 0), []).append(name)
    for label, names in where.items():
        print(f"{', '.join(names)}: {label}")
    if doctor.obstacles(machine):
        print("The server can't run here: " + "; ".join(doctor.obstacles(machine)))


def _where_measured(name: str, *, here: bool) -> str:
    """The source of its figures: this machine if it has a GPU, else a recording, if there is one."""
    if here:
        return "measured here"
    try:
        return recordings.load(name).label
    except recordings.NoRecording:
        return f"not shown: it needs a GPU, and there is no recording yet (on a GPU machine: lab record --only {name})"
