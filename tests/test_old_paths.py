"""Modules at their old paths: every one is there, warns with the new name, and takes no name from `lab`."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lab_support.notebook as lab
from lab_support import old_paths

FOLDER = Path(old_paths.__file__).parent
OLD = sorted(f"lab_support.{path.parent.name}.{path.stem}" for path in FOLDER.glob("*/[a-z]*.py"))


@pytest.mark.parametrize("name", OLD)
def test_an_old_path_gives_the_module_and_says_where_it_is(name: str) -> None:
    sys.modules.pop(name, None)
    with pytest.warns(FutureWarning, match=f"{name} is (lab_support[.a-z_]+) now") as told:
        old = importlib.import_module(name)
    now = importlib.import_module(str(told[0].message).split()[2])
    assert all(getattr(old, each) is value for each, value in vars(now).items() if not each.startswith("__"))
    star: dict[str, object] = {}
    exec(f"from {name} import *", star)
    assert {each for each in vars(now) if not each.startswith("_")} <= star.keys()


def test_a_function_of_the_same_name_can_still_be_called() -> None:
    code = (
        "import lab_support.notebook as lab; from lab_support.notebook.recorded import titles\n"
        "print(lab.recorded.__doc__ is not None, callable(lab.recorded))\n"
        "try: lab.recorded('no such recording', print)\n"
        "except LookupError as error: print('called')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True True\ncalled\n"
    assert "<string>:1: FutureWarning" in done.stderr  # it names the line of the reader


def test_the_source_of_a_moved_module_is_shown_under_its_old_path() -> None:
    old, now = (
        lab.source(f"lab_support.{path}", "choose").text for path in ("boundary.start_rule", "supervision.start_rule")
    )
    assert old == now and "lab_support/supervision/start_rule.py" in now


def test_every_name_of_lab_is_there_and_another_is_an_error() -> None:
    assert all(getattr(lab, name) is not None for name in lab.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = lab.no_such_name  # type: ignore[attr-defined]
