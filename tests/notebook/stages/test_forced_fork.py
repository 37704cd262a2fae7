"""A fork past the rule: the server is late without a cause, and the kernel says where its engine core waits."""

import os

import pytest

from lab_support.notebook.stages import forced_fork


@pytest.mark.slow
def test_a_fork_past_the_rule_ends_at_the_limit_and_the_log_has_no_cause():
    told = forced_fork.watch(override=True, ready_timeout=6.0)
    assert told["launcher"] == 1 and told["seconds"] >= 6.0
    assert told["log"][-1].startswith("lab serve: not ready within --ready-timeout 6 s")
    assert not any("thread" in line for line in told["log"])


@pytest.mark.slow
def test_with_one_thread_it_becomes_ready_and_obeyed_it_names_the_threads():
    lucky = forced_fork.watch(override=True, threads=1, ready_timeout=90.0)
    assert lucky["launcher"] is None and lucky["client"].startswith("HTTP/1.1 200")
    obeyed = forced_fork.watch(override=False, ready_timeout=1.0)
    assert any("threads run here" in line for line in obeyed["log"])


@pytest.mark.slow
def test_the_late_engine_core_is_there_and_ends_with_the_block():
    with forced_fork.late_engine_core() as core:
        assert core.facts()["threads"] == len(os.listdir(f"/proc/{core.pid}/task"))
    assert core.facts()["state"] == "gone"
