"""Reports of a cell's processes, as a notebook reads them."""

from lab_support.notebook.cells.python_process import run_process

TELLS = """
from lab_support.notebook.script import emit
emit(way="fork", messages=0)
emit(way="spawn", messages=1)
emit(way="spawn", messages=2)
emit(port=4711)
"""


def test_events_are_found_by_the_value_of_a_field_and_the_last_one_counts():
    run = run_process(TELLS, quiet=True)
    assert run.by("way") == {"fork": {"way": "fork", "messages": 0}, "spawn": {"way": "spawn", "messages": 2}}
    assert run.by("nothing") == {}


def test_all_fields_together_are_what_was_told_last():
    assert run_process(TELLS, quiet=True).told == {"way": "spawn", "messages": 2, "port": 4711}
