"""A launcher in small: a lifeline, signals, and children from `children_under_test`."""

import contextlib
from collections.abc import Iterator

import pytest

from lab_support.boundary.lifeline import Lifeline
from lab_support.boundary.signals import Signals
from lab_support.supervision.children import Children
from lab_support.supervision.python_processes import stop_python_processes

CHILDREN_UNDER_TEST = "tests.boundary.children_under_test"


@contextlib.contextmanager
def family_of(directory: str) -> Iterator[tuple[Children, Signals]]:
    with Signals() as signals, Lifeline() as lifeline:

        def close_after_fork() -> None:
            lifeline.close_write_end()
            signals.close()

        with contextlib.ExitStack() as stack:
            stack.callback(stop_python_processes)
            children = stack.enter_context(Children(lifeline.read_end, directory, close_after_fork))
            yield children, signals


@pytest.fixture
def family(tmp_path) -> Iterator[tuple[Children, Signals]]:
    with family_of(str(tmp_path / "runtime")) as made:
        yield made
