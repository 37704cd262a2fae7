"""A pytest plugin for a Python without PyTorch: tests that need it are skipped. `make test-python` uses it.

    python -m pytest -p tests.without_torch

A test needs PyTorch if its failure says so: in the test itself, in the log of a server that it started, or in the words
of `lab doctor`. So there is no list to keep, but for a mark on the few whose failure can't say it. Where PyTorch is
installed nothing is skipped.
"""

import importlib.util
from collections.abc import Generator

import pytest

MISSING = ("No module named 'torch'", "not installed: torch")
WITH_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
"""For a test whose failure can't say so."""


def needs_torch(text: str) -> bool:
    return any(words in text for words in MISSING)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.failed and needs_torch(str(report.longrepr)):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, "Skipped: needs torch")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and needs_torch(report.longreprtext + "".join(text for _, text in report.sections)):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, "Skipped: needs torch")
    return report
