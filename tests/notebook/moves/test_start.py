"""The first cell of each notebook says what the machine is, and what is missing here."""

import dataclasses
import os
import subprocess
import sys

import lab_support.notebook as lab
from lab_support import doctor


def test_start_prints_the_machine_in_a_line(capsys):
    lab.start("00")
    assert doctor.one_line(doctor.examine()) in capsys.readouterr().out


def test_start_says_what_a_notebook_cannot_show_here(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "losses", lambda machine, number: [f"no GPU: {number} is shown from recordings"])
    lab.start("05")
    assert "This machine has no GPU: 05 is shown from recordings." in capsys.readouterr().out


def test_a_kernel_that_imports_the_lab_holds_neither_torch_nor_the_server():
    script = (
        "import sys, lab_support.notebook; mine = set(sys.modules);"
        "server = {name for name in mine if name.startswith(('lab_support.engine', 'lab_support.boundary',"
        " 'lab_support.frontend', 'lab_support.processes'))};"
        "sys.exit(str(server | {'torch', 'uvicorn', 'matplotlib.pyplot'} & mine or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""


def test_start_says_of_each_experiment_where_its_figures_come_from(capsys, monkeypatch):
    monkeypatch.delenv("LAB_NOTEBOOK", raising=False)
    without_gpu = dataclasses.replace(doctor.examine(), gpus=0)
    monkeypatch.setattr(doctor, "examine", lambda: without_gpu)
    lab.start("05", experiments=["no_such_experiment"])
    said = capsys.readouterr().out
    assert "no_such_experiment: not shown: it needs a GPU, and there is no recording yet" in said
    assert os.environ["LAB_NOTEBOOK"] == "05"
