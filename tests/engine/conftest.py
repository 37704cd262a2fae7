"""Devices for the engine's tests."""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.engine.devices import Device, opened

if not torch.cuda.is_available():
    # Triton reads it when it is imported, which transformers does: from then on kernels are run by its interpreter.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The device that `request.param` names (devices.py)."""
    with opened(request.param) as found:
        yield found
