"""The set-up commands of `make`, which work in a folder of any name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# In place of .venv/bin/python: it says with which words it was called, and finds a torch if there is a file `torch`.
STUB = """#!/bin/sh
case "$1" in
  -c) test -e torch ;;
  *) printf '%s|' "$@" >> calls; echo >> calls; test "$4" = --editable; true ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that the set-up reads, in a folder with a name that shells and sed take apart; with such a .venv."""
    folder = tmp_path / "a folder & more | 'x' $y"
    (folder / "tests").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "tests/requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    stub = folder / ".venv" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(0o755)
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", "-C", folder, *words], capture_output=True, text=True, timeout=60, env=environment)


def calls(folder: Path) -> list[list[str]]:
    return [line.rstrip("|").split("|") for line in (folder / "calls").read_text().splitlines()]


def pinned_torch() -> str:
    return next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch=="))


def test_the_set_up_works_in_a_folder_of_any_name(clone):
    done = make(clone, "lab")
    assert done.returncode == 0, done.stderr
    *_, install, opened = calls(clone)
    assert install == ["-m", "pip", "install", "--quiet", "--requirement", ".venv/requirements.txt", "--editable", "."]
    assert opened == ["-m", "lab_support", "open"]
    asked = (clone / ".venv" / "requirements.txt").read_text()
    assert pinned_torch() in asked and not re.search("^-e", asked, re.MULTILINE)
    assert make(clone, "lab").returncode == 0
    assert len(calls(clone)) == 4  # pip, pip, and the notebooks twice


def test_a_torch_that_is_there_is_kept(clone):
    (clone / "torch").touch()
    assert make(clone, "lab").returncode == 0
    asked = (clone / ".venv" / "requirements.txt").read_text()
    assert "torch==" not in asked and "jupyterlab==" in asked


def test_the_cpu_build_is_one_command_which_readme_names():
    assert "\n```\nmake lab TORCH=cpu\n```\n" in README
    done = subprocess.run(["make", "-n", "lab", "TORCH=cpu"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    index = "https://download.pytorch.org/whl/cpu"
    [line] = [line for line in done.stdout.splitlines() if "--index-url" in line]
    assert line.endswith(f"""install --quiet "$(grep '^torch==' requirements.txt)+cpu" --index-url {index}""")


def test_it_comes_before_everything_else_and_once(clone):
    for _ in range(2):
        assert make(clone, "serve", "TORCH=cpu").returncode == 0
    first, *others = calls(clone)
    wanted = f"{pinned_torch()}+cpu"
    assert first == ["-m", "pip", "install", "--quiet", wanted, "--index-url", "https://download.pytorch.org/whl/cpu"]
    assert not any("--index-url" in words for words in others)


def test_another_build_takes_its_place_and_the_first_may_come_back(clone):
    for build in ("cpu", "cu130", "cpu"):
        assert make(clone, "serve", f"TORCH={build}").returncode == 0
    asked = [words[-1].rpartition("/")[2] for words in calls(clone) if "--index-url" in words]
    assert asked == ["cpu", "cu130", "cpu"]


@pytest.mark.parametrize("build", ["gpu", "cpu x", "CPU"])
def test_a_build_that_there_is_not_is_refused_in_a_sentence(clone, build):
    done = make(clone, "lab", f"TORCH={build}")
    assert done.returncode == 2
    assert f"TORCH: got {build}, expected cpu, or the name of another build" in done.stderr
    assert not (clone / "calls").exists()


def test_a_workspace_of_ones_own(clone):
    assert make(clone, "lab", "WORKSPACE=~/my lab & more").returncode == 0
    assert calls(clone)[-1] == ["-m", "lab_support", "open", "--workspace", "~/my lab & more"]
