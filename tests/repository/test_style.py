"""One look for all code, in notebooks too: ruff's rules, ruff's format, mypy's types. `make check` runs the same."""

import pytest

from tests.checks import CHECKS, started

SLOW = {"types": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in CHECKS])
def test_the_code_has_one_look(name: str) -> None:
    with started(name) as run:
        output = run.communicate()[0]
    assert run.returncode == 0, output[-4000:]
