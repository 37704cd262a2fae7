"""Shared fixtures of the tests with real kernels."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_core.utils import ensure_event_loop

import lab_support.notebook.publishing  # noqa: F401 (before nbformat is imported, whose import it shortens)
from lab_support.notebook.page import predictions, record


@pytest.fixture(scope="session", autouse=True)
def loop_of_jupyter_client() -> Iterator[None]:
    """jupyter_client's blocking calls make one event loop and keep it: here it outlives the tests, not one of them."""
    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.fixture
def empty_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's record with nothing in it, outside of any batch run: its file."""
    for name in (record.STABLE, record.BATCH, record.NOTEBOOK, "LAB_STRICT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAB_RECORD", str(tmp_path / "mine.jsonl"))
    monkeypatch.setattr(record, "_in_memory", [])
    monkeypatch.setattr(predictions, "_questions", {})
    monkeypatch.setattr(predictions, "_watching", {})
    return tmp_path / "mine.jsonl"
