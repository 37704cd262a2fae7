"""Connections to a server in the test's own process are waited for, so that nothing looks left behind."""

from collections.abc import Iterator

import pytest
import uvloop


@pytest.fixture(scope="session", autouse=True)
def libuv_has_begun() -> None:
    """Its first event loop in a process opens a pipe for signals that stays: not a descriptor that a test left."""
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def settled(nothing_left: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Before `nothing_left` looks, the module's `fake` server has closed what the test closed."""
    fake = request.getfixturevalue("fake") if "fake" in request.fixturenames else None
    yield
    if fake is not None:
        fake.settle()
