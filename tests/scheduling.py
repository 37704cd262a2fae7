"""The order of the tests, and what pytest-xdist gives to one worker: `make test` with `--dist loadscope`.

Notebooks run first, because they take longest, and because the claims about a notebook are judged by that run. A module
goes to one worker, which makes its fixtures once; the next free worker takes the next module. Modules without slow
tests come last, so that the workers end together.
"""

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

ALONE = ("test_it_runs_from_a_clean_kernel", "test_run_all_in_jupyterlab")
BY_NOTEBOOK = "tests/notebook/moves/test_solutions.py"


class ByModule(LoadScopeScheduling):
    """The order of the collection is kept, which xdist's own would give up for modules with more tests."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """The name of the unit of work to which a test belongs: all its tests go to one worker."""
    module, _, test = nodeid.partition("::")
    if test.startswith(ALONE):
        return nodeid
    notebook = re.search(r"\[(\d\d[a-z]?)\b", test) if module == BY_NOTEBOOK else None
    return f"{module} {notebook[1]}" if notebook else module


def sort(items: list[pytest.Item]) -> None:
    """Notebooks, then units with slow tests, then the others; otherwise as collected."""
    slow = {unit_of(item.nodeid) for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[bool, bool]:
        unit = unit_of(item.nodeid)
        return unit != item.nodeid, unit not in slow

    items.sort(key=rank)
