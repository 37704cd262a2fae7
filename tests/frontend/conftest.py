"""Connections to a server in the test's own process are waited for, so that nothing looks left behind."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def settled(nothing_left: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Before `nothing_left` looks, the module's `fake` server has closed what the test closed."""
    fake = request.getfixturevalue("fake") if "fake" in request.fixturenames else None
    yield
    if fake is not None:
        fake.settle()
