"""The blank 08.b2: its judge computes with the numbers of the reader's own cell, whatever they have changed there."""

from types import SimpleNamespace

import pytest

from lab_support.notebook.moves.blanks import blank

COST = {"loop": 40.0, "api": 42.0, "engine": 10.0, "client": 8.0}


def verdict(limits, *, rows, milliseconds, api_servers):
    fields = {"tokens_per_second": 1, "us_per_token": COST, "cores_left": 1.8, "rows": rows,
              "milliseconds": milliseconds, "api_servers": api_servers, "limits": limits}  # fmt: skip
    return blank("08.b2").judge(SimpleNamespace(events=[SimpleNamespace(fields=fields)]))


@pytest.mark.parametrize(("rows", "milliseconds", "api_servers"), [(128, 2, 4), (64, 5, 2), (16, 0.5, 8)])
def test_right_limits_pass_with_any_numbers(rows, milliseconds, api_servers):
    right = [rows / milliseconds * 1000, api_servers * 25_000, 30_000]
    assert verdict(right, rows=rows, milliseconds=milliseconds, api_servers=api_servers).state == "passed"


def test_limits_of_other_numbers_fail():
    """As committed in the notebook, with 128 rows in 2 ms; but the cell that ran has 64 rows in 5."""
    found = verdict([64_000, 100_000, 30_000], rows=64, milliseconds=5, api_servers=4)
    assert (found.state, "engine's pace" in found.cause) == ("failed", True)
