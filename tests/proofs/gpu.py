"""The GPU part without a GPU: each experiment is named with its reason, each test says why it skips.

On a machine with a GPU the same rows say that all of it has run.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from lab_support.instruments.record.provenance import ROOT
from lab_support.instruments.record.recorder import EXPERIMENTS
from tests.engine.devices import why_no_gpu
from tests.proofs import Row, pytests

REASON = "needs a GPU|can't run here"


def record(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab_support", "record", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def refusals_row() -> Row:
    """`lab record` here, into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = record("--out", folder)
        files = len(list(Path(folder).iterdir()))
    lines = [re.search(rf" {one.name} .*can't run here: (.+)", done.stdout) for one in EXPERIMENTS]
    reasons = [line.group(1) for line in lines if line]
    told = f"{len(reasons)} named, {files} files; {'; '.join(sorted(set(reasons)))}"
    asked = (
        f"without a GPU `lab record` names each of {len(EXPERIMENTS)} experiments and why it can't run, and writes none"
    )
    return Row(asked, told, done.returncode == 0 and len(reasons) == len(EXPERIMENTS) and files == 0)


def recordings_row() -> Row:
    """`lab record` on a GPU, into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = record("--out", folder)
        files = len(list(Path(folder).glob("*.json")))
    return Row(
        f"`lab record` makes {len(EXPERIMENTS)} recordings in 8 minutes",
        f"{files} files; {done.stdout.splitlines()[-1]}",
        done.returncode == 0 and files == len(EXPERIMENTS),
    )


def list_row() -> Row:
    lines = record("--list").stdout.splitlines()
    named = sum(any(f" {one.name} " in line for line in lines) for one in EXPERIMENTS)
    none = sum("no recording" in line for line in lines)
    asked = f"`lab record --list` names each of {len(EXPERIMENTS)}, and whether there is a recording"
    return Row(asked, f"{named} named, {none} without a recording", named == len(EXPERIMENTS))


def skips_row() -> Row:
    """Every test that needs a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--timeout", "3000", "-p", "no:cacheprovider"]
    output = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout
    skipped = re.findall(r"^SKIPPED \[(\d+)\] \S+ (.+)$", output, re.MULTILINE)
    with_reason = sum(int(count) for count, reason in skipped if re.search(REASON, reason))
    tally = output.splitlines()[-1]
    marked = sum(int(count) for count in re.findall(r"(\d+) (?:passed|failed|skipped|error)", tally))
    told = f"{with_reason} of {marked}, for: {', '.join(sorted({reason for _, reason in skipped}))[:200]}"
    return Row("every test marked gpu skips here and says why", told, marked > 0 and with_reason == marked)


def prove() -> list[Row]:
    same = "the engine's device tests and the sampler's: on the CPU and on a pretended GPU, one wait a step"
    server = "only engine cores hold the device; API servers are up while it loads; a kill frees its memory"
    headers = "every call to libcuda, libcudart and NVML is as NVIDIA's headers declare it"
    here = [refusals_row(), list_row(), skips_row()] if why_no_gpu() else [list_row(), recordings_row()]
    return [
        *here,
        *([] if why_no_gpu() else pytests.run("every test marked gpu passes", "-m", "gpu")),
        *pytests.run(same, "tests/engine/test_on_a_device.py", "tests/engine/test_sampler.py", "-m", "not gpu"),
        *pytests.run(server, "tests/server/test_on_a_gpu.py", "-m", "not gpu"),
        *pytests.run(headers, "tests/experiments/test_cuda_headers.py"),
        *pytests.run("which functions never had a GPU: the README's list", "tests/experiments/test_never_on_a_gpu.py"),
    ]


if __name__ == "__main__":
    for row in prove():
        print(row)
