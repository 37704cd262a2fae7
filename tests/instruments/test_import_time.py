"""`-X importtime`, read as a tree: what Python really writes, and what stands between its lines."""

import subprocess
import sys

from lab_support.instruments import import_time


def imports_of(program: str) -> tuple[import_time.Import, ...]:
    command = [sys.executable, "-I", "-X", "importtime", "-c", program]
    return import_time.parse(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr)


def test_a_module_stands_above_what_it_was_the_first_to_import():
    tops = imports_of("import json, json.decoder")
    json = import_time.find(tops, "json")
    assert json in tops and "json.decoder" in [each.name for each in json.imports]
    assert "json.decoder" not in [top.name for top in tops], "it was there already"
    assert import_time.find(tops, "sqlite3") is None


def test_a_whole_is_its_own_time_and_that_of_its_parts():
    for top in imports_of("import asyncio"):
        for each in top:
            assert abs(each.ms - each.own_ms - sum(below.ms for below in each.imports)) < 0.5


def test_modules_come_in_the_order_in_which_they_were_imported():
    names = [top.name for top in imports_of("import colorsys, cmd")]
    assert names.index("site") < names.index("colorsys") < names.index("cmd")


def test_other_lines_are_passed_over():
    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       200 |        200 |   inner\n"
        "a warning that somebody wrote\n"
        "import time:       100 |        300 | outer\n"
    )
    (outer,) = import_time.parse(text)
    assert (outer.name, outer.ms, outer.own_ms, [each.name for each in outer.imports]) == ("outer", 0.3, 0.1, ["inner"])
    assert import_time.parse("nothing of the kind") == ()
