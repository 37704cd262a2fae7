"""Devices for the engine's tests."""

from collections.abc import Iterator

import pytest

from tests.engine.devices import Device, opened


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The device that `request.param` names (devices.py)."""
    with opened(request.param) as found:
        yield found
