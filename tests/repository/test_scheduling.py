"""The order of the tests, and which of them go to one worker: `tests/repository/scheduling.py`."""

import os
import subprocess
import sys
from pathlib import Path

from tests.checks import ROOT
from tests.repository.scheduling import BY_NOTEBOOK, unit_of

NOTES = """
import os, pathlib, pytest

@pytest.fixture(autouse=True)
def noted(request):
    with open("notes", "a") as file:
        file.write(f"{os.environ['PYTEST_XDIST_WORKER']} {request.node.name}\\n")
"""
MODULES = {
    "test_a_quick": "def test_quick_1(): pass\ndef test_quick_2(): pass\ndef test_quick_3(): pass",
    "test_b_slow": "import pytest\ndef test_slow_1(): pass\n@pytest.mark.slow\ndef test_slow_2(): pass",
    "test_c_notebooks": "def test_run_all_in_jupyterlab(): pass\ndef test_it_runs_from_a_clean_kernel(): pass",
}


def test_notebooks_come_first_quick_modules_last_and_a_module_goes_to_one_worker(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow")
    (tmp_path / "conftest.py").write_text(NOTES)
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    words = ["-p", "xdist", "-p", "tests.repository.scheduling", "-n", "2", "--dist", "loadscope"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert {len({worker for worker, name in notes if kind in name}) for kind in ("slow", "quick")} == {1}
    for worker in {worker for worker, _ in notes}:
        mine = [name for other, name in notes if other == worker]
        assert mine == sorted(mine, key=lambda name: ("quick" in name, "slow" in name))
    assert {name.partition("_")[2] for _, name in notes[:2]} & {"run_all_in_jupyterlab", "it_runs_from_a_clean_kernel"}


def test_answers_and_claims_go_by_notebook() -> None:
    claim, answer = f"{BY_NOTEBOOK}::test_a_claim[01a-In a child]", f"{BY_NOTEBOOK}::test_an_answer[01a.b1 wrong 1]"
    assert unit_of(claim) == unit_of(answer) != unit_of(claim.replace("01a", "01"))
    assert unit_of(f"{BY_NOTEBOOK}::test_names") == BY_NOTEBOOK
