"""The order of the tests, and what pytest-xdist gives to one worker: `make test` with `--dist loadscope`.

Notebooks run first, because they take longest, and because the claims about a notebook are judged by that run. A module
goes to one worker, which makes its fixtures once; the next free worker takes the next module. Modules without slow
tests come last, so that the workers end together. `tests/conftest.py` has these hooks.
"""

import re
from typing import Any

import pytest

ALONE = ("test_it_runs_from_a_clean_kernel", "test_run_all_in_jupyterlab")
BY_NOTEBOOK = "tests/notebook/moves/test_solutions.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks, then units with slow tests, then the others; otherwise as collected."""
    slow = {unit_of(item.nodeid) for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[bool, bool]:
        unit = unit_of(item.nodeid)
        return unit != item.nodeid, unit not in slow

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own for a whole module, with our units, in the order of the collection."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False  # which would put units with more tests first
    return ByUnit(config, log)


def unit_of(nodeid: str) -> str:
    """The name of the unit of work to which a test belongs: all its tests go to one worker."""
    module, _, test = nodeid.partition("::")
    if test.startswith(ALONE):
        return nodeid
    notebook = re.search(r"\[(\d\d[a-z]?)\b", test) if module == BY_NOTEBOOK else None
    return f"{module} {notebook[1]}" if notebook else module
