"""No message breaks a running engine core; the proof sends 10,000 (`python -m tests.proofs.vllm_rs`)."""

import pytest

from tests.running_server import PACED
from tests.server.vllm_rs.broken_frames import break_an_engine_core
from tests.server.vllm_rs.frames import KINDS

COUNT = 500


@pytest.mark.parametrize("device", [{}, PACED], ids=["cpu", "paced"])
def test_right_requests_are_answered_whatever_comes_between(device: dict[str, str]) -> None:
    report, code, said = break_an_engine_core(COUNT, 22, **device)
    assert report.wrong == []
    assert (report.right, report.in_use) == (COUNT // 25, 0)
    assert sum(report.sent.values()) == COUNT and len(report.sent) == len(KINDS)
    assert (code, "ERROR" in said, "Traceback" in said) == (0, False, False)
