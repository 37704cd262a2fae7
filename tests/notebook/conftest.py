"""What tests with real kernels share."""

from collections.abc import Iterator

import pytest
from jupyter_core.utils import ensure_event_loop


@pytest.fixture(scope="session", autouse=True)
def loop_of_jupyter_client() -> Iterator[None]:
    """jupyter_client's blocking calls make one event loop and keep it: here it outlives the tests, not one of them."""
    loop = ensure_event_loop()
    yield
    loop.close()
