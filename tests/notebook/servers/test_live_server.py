"""A live server as notebooks use it: the real one, started, looked at, driven, stopped, proven gone."""

import os
import select
import signal
import subprocess
import sys
import time

import pytest

import lab_support.notebook as lab
from lab_support.config import ConfigError
from lab_support.instruments import proc
from lab_support.notebook.servers.drive import LoadFailed
from lab_support.notebook.servers.live_server import ServerNotReady


@pytest.fixture(scope="module")
def live():
    with lab.live_server(api_server_count=2) as server:
        yield server


def test_it_answers_as_the_server_that_was_started(live):
    assert live.session.get(f"{live.url}/version", timeout=10).json()["run_id"] == live.run_id
    assert live.api_servers == ["api-0", "api-1"]
    assert live.survivors() == list(live.pids)
    assert "Ready:" in live.log


def test_its_processes_share_one_socket_and_only_the_engine_core_maps_torch(live):
    views = lab.look(live)
    assert views[0].role == "launcher"
    assert {view.role for view in views if view.socket_numbers} == {"launcher", "api-0", "api-1"}
    assert len({view.socket_inode for view in views if view.socket_inode}) == 1
    assert [view.role for view in views if view.maps_torch] == ["engine-0"]
    assert all(view.parent == "launcher" for view in views[1:])
    assert all(0 < view.private_mb <= view.proportional_mb <= view.resident_mb for view in views)


def test_a_load_is_run_elsewhere_and_its_report_comes_back(live):
    before = lab.metric(live, "lab_engine_steps_total")
    report = lab.drive(live, clients=2, requests=6, output_tokens="2-6")
    assert (report.asked, report.completed, report.errors) == (6, 6, {})
    assert sum(share.requests for share in report.by_server.values()) == 6
    assert set(report.by_server) <= set(live.api_servers)
    assert lab.metric(live, "lab_engine_steps_total") > before


def test_a_load_that_makes_no_sense_says_why(live):
    with pytest.raises(LoadFailed, match="hangup-share: got 7"):
        lab.drive(live, hangup_share=7)


def test_a_choice_that_cannot_work_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="api-server-count: got 0"):
        lab.live_server(api_server_count=0)
    with pytest.raises(TypeError, match="no_such_flag"):
        lab.live_server(no_such_flag=1)


def test_a_cell_run_again_replaces_its_server_and_no_other(live, capsys):
    notebook = {"lab": lab, "other": live}
    for _ in range(2):
        before = notebook.get("server")
        exec("server = lab.live_server(api_server_count=1)", notebook)
    with notebook["server"] as server:
        assert before.survivors() == [] and server.survivors() == list(server.pids)
        assert f"the server at {before.url} is stopped: another one becomes `server`" in capsys.readouterr().out
        assert live.survivors() == list(live.pids)


def test_a_server_that_does_not_come_up_is_an_error_with_what_it_said(tmp_path):
    with pytest.raises(ServerNotReady, match="lab serve: "):
        lab.live_server(model=tmp_path)


def test_a_server_dies_with_its_kernel(tmp_path):
    """kill -9 of the process that started it: every role is gone, and so are its files."""
    script = (
        "import lab_support.notebook as lab, sys; server = lab.live_server(api_server_count=1);"
        "print(*server.pids.values(), flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as kernel:
        pids = [int(word) for word in kernel.stdout.readline().split()]
        processes = [process for pid in pids if (process := proc.read_process(pid))]
        assert len(processes) == len(pids) >= 3
        folder = server_folder(processes[0].pid)
        ended = [os.pidfd_open(pid) for pid in pids]
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    for descriptor in ended:
        assert wait_readable(descriptor, 20)
        os.close(descriptor)
    assert not any(proc.is_running(process.identity) for process in processes)
    assert not folder or wait_until_gone(folder)


def server_folder(launcher: int) -> str:
    """The temporary folder of its own, from the files that it has open."""
    names = [descriptor.about for descriptor in proc.read_descriptors(launcher) if "/lab-serve-" in descriptor.about]
    return names[0].partition("/lab-serve-")[0] if names else ""


def wait_readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def wait_until_gone(folder: str) -> bool:
    deadline = time.monotonic() + 20
    while os.path.exists(folder) and time.monotonic() < deadline:
        time.sleep(0.001)
    return not os.path.exists(folder)


def test_a_pace_from_a_table_is_named_wherever_its_figures_show(tmp_path, monkeypatch):
    """Three paces of a notebook are three files beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.txt").write_text("1 1 5\n4 1 5\n")
    with lab.live_server(device="paced:slow.txt", max_num_seqs=4, api_server_count=1) as server:
        named = "stand-in for a GPU, paced like slow.txt (the reader's own table)"
        assert server.stand_in == named and named in repr(server)
        report = lab.drive(server, clients=2, requests=4, output_tokens="20", ignore_eos=True)
        picture = lab.latency(report)
    assert report.stand_in == named and report.errors == {}
    assert named in picture.alt
    assert report.inter_token.p50 > 0.0045


def test_a_server_that_computes_has_no_stand_in(live):
    assert live.stand_in == ""
    assert lab.drive(live, clients=1, requests=1, output_tokens="2").stand_in == ""
