"""data/recordings/README.md says what each recording is and on which machine it was made; this keeps it in step."""

import re

from lab_support.instruments.record import recordings
from lab_support.instruments.record.provenance import ROOT
from lab_support.instruments.record.recorder import EXPERIMENTS, ON_ANY_MACHINE

TEXT = (ROOT / "data" / "recordings" / "README.md").read_text()


def test_the_readme_has_a_row_for_each_experiment_and_each_has_a_recording():
    made = {recording.name for recording in recordings.load_all()}
    for experiment in EXPERIMENTS + ON_ANY_MACHINE:
        assert f"| {experiment.number} | `{experiment.name}` |" in TEXT
        assert experiment.name in made
    assert made == set(re.findall(r"^\| \d+ \| `(\w+)` \|", TEXT, re.MULTILINE))


def test_the_readme_names_the_machine_of_every_recording_of_a_gpu():
    for recording in recordings.load_all():
        machine = recording.machine
        if machine.gpu:
            torch = machine.torch.partition("+")[0]
            for part in (machine.gpu, f"driver {machine.driver}", f"CUDA {machine.cuda}", f"PyTorch {torch}"):
                assert part in TEXT, f"{recording.name}: {part}"


def test_every_recording_ran_to_its_end():
    for recording in recordings.load_all():
        assert recording.complete, f"{recording.name}: {recording.label}"
