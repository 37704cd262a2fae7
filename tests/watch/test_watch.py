"""`lab watch` on real process trees: its stream, and its end in every way."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab_support.instruments import proc
from tests.instruments.as_nobody import needs_root
from tests.instruments.postgres import postgresql
from tests.running_server import PACED, RunningServer, running_server
from tests.watch.watching import Stream, Watching, family, watched

KEY = "a-key-for-this-test"


@pytest.fixture(scope="module")
def paced():
    """For tests that leave it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_API_KEY", KEY)
        with running_server(api_server_count=2, **PACED) as running:
            yield running


@pytest.fixture
def doomed():
    """For one test."""
    with running_server(api_server_count=2, **PACED) as running:
        yield running


@contextlib.contextmanager
def opened(watching: Watching):
    """A tab that has seen figures and an X-ray."""
    watching.enter()
    with watching.tab() as tab:
        tab.until(lambda seen: {"figures", "xray", "happened"} <= seen.latest.keys())
        yield tab


class TestOurServer:
    def test_every_process_and_who_holds_which_connection(self, paced: RunningServer) -> None:
        port = int(paced.url.rpartition(":")[2])
        with watched(paced.url, key=KEY) as watching, opened(watching) as tab, contextlib.ExitStack() as held:
            mine = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(9)]
            addresses = {f"127.0.0.1:{one.getsockname()[1]}" for one in mine}

            def holders(seen: Stream) -> dict[str, list[str]] | None:
                found = {row["name"]: row["clients"] for row in seen.latest["figures"]["processes"]}
                return found if sum(map(len, found.values())) == 9 else None

            found = tab.until(holders)
            assert {address for clients in found.values() for address in clients} == addresses
            assert {name for name, clients in found.items() if clients} <= {"lab:api-0", "lab:api-1"}
            assert set(paced.pids.values()) <= {row["pid"] for row in tab.latest["figures"]["processes"]}
            assert tab.latest["figures"]["queues"] == [[f"127.0.0.1:{port}", 0, 2048]]

    def test_the_accept_queue_of_a_stopped_server_grows(self, paced: RunningServer) -> None:
        port = int(paced.url.rpartition(":")[2])
        with watched(paced.pids["launcher"]) as watching, opened(watching) as tab, contextlib.ExitStack() as held:
            for role in ("api-0", "api-1"):
                os.kill(paced.pids[role], signal.SIGSTOP)
                held.callback(os.kill, paced.pids[role], signal.SIGCONT)
            tab.until(lambda seen: all(seen.process(paced.pids[role])["state"] == "T" for role in ("api-0", "api-1")))
            for _ in range(5):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
            tab.until(lambda seen: seen.latest["figures"]["queues"][0][1] == 5)

    def test_engine_cores_are_told_by_the_url_with_the_key(self, paced: RunningServer) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        with watched(paced.url, "--allow-signals", key=KEY) as watching, opened(watching) as tab:
            assert paced.post("/v1/completions", {"prompt": "a", "max_tokens": 4}, headers=headers).status_code == 200
            engine = tab.until(lambda seen: _engines(seen) and _engines(seen)[0]["blocks"] and _engines(seen)[0])
            assert (
                engine["running"] == engine["waiting"] == 0 and tab.latest["figures"]["engine_figures"]["reason"] == ""
            )
            assert "paced like 8B" in tab.latest["figures"]["engine_figures"]["stand_in"]
            assert watching.press("clients", {}).status_code == 200
            assert watching.press("clients", {}).status_code == 409, "one at a time"
            tab.until(lambda seen: _engines(seen)[0]["running"] and _engines(seen)[0]["step_ms"])
            tab.until(lambda seen: seen.happened("16 clients: closed loop, 16 clients: 320 requests"))

    @pytest.mark.parametrize(
        ("by_url", "reason"), [(True, "asks for its key"), (False, "give `lab watch` the server's URL")]
    )
    def test_without_url_or_key_it_says_what_is_missing(self, paced: RunningServer, by_url: bool, reason: str) -> None:
        with watched(paced.url if by_url else paced.pids["launcher"]) as watching, opened(watching) as tab:
            tab.until(lambda seen: reason in seen.latest["figures"]["engine_figures"]["reason"])
            assert tab.latest["figures"]["engine_figures"]["streams"] is None

    def test_a_killed_api_server_and_its_successor_are_told_in_order(self, doomed: RunningServer) -> None:
        gone = doomed.pids["api-1"]
        with watched(doomed.pids["launcher"]) as watching, opened(watching) as tab:
            before = tab.latest["xray"]["svg"]
            os.kill(gone, signal.SIGKILL)
            tab.until(lambda seen: seen.happened(f"lab:api-1 ({gone}) ended by SIGKILL"))
            heir = tab.until(lambda seen: seen.happened(f"takes the place of {gone}"))
            assert tab.process(gone) is None and tab.process(heir["pid"])["name"] == "lab:api-1"
            tab.until(lambda seen: f"pid {heir['pid']}" in seen.latest["xray"]["svg"])
            assert f"pid {gone}" in before and f"pid {gone}<" not in tab.latest["xray"]["svg"]

    def test_a_roll_names_who_goes_on_in_whose_place(self, doomed: RunningServer) -> None:
        with watched(doomed.pids["launcher"]) as watching, opened(watching) as tab:
            os.kill(doomed.pids["launcher"], signal.SIGUSR1)
            for role in ("api-0", "api-1"):
                tab.until(
                    lambda seen, pid=doomed.pids[role]: (
                        seen.happened(f"in the place of {pid}") or seen.happened(f"takes the place of {pid}")
                    )
                )
                assert tab.happened(f"({doomed.pids[role]}) ended with exit code 0")

    def test_it_ends_with_the_server_and_says_so(self, doomed: RunningServer) -> None:
        with watched(doomed.pids["launcher"]) as watching, opened(watching) as tab:
            doomed.process.kill()
            tab.until(lambda seen: "over" in seen.latest)
            assert "have ended" in tab.latest["over"]["words"] and not tab.next()
            assert watching.process.wait(10) == 0


def test_gunicorn_s_roll(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "app.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        bind = f"fd://{listening.fileno()}"
        command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", bind, "app:app"]
        master = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, pass_fds=[listening.fileno()])
        port = listening.getsockname()[1]
    with master:
        try:
            with watched(master.pid) as watching, opened(watching) as tab:
                old = tab.until(lambda seen: len(_pids(seen)) == 3 and _pids(seen) - {master.pid})
                assert tab.latest["figures"]["ports"] == [port]
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    assert client.recv(100), "the workers have set their handlers"
                    while client.recv(100):
                        pass
                master.send_signal(signal.SIGHUP)
                tab.until(lambda seen: len(_pids(seen)) == 3 and not _pids(seen) & old)
                tab.until(lambda seen: sum(event["kind"] == "roll" for event in seen.events) == 2)
        finally:
            master.terminate()


@pytest.mark.slow
@needs_root
def test_postgresql_s_backends_are_born_for_a_client_and_end_with_it() -> None:
    with postgresql() as (postmaster, port), watched(postmaster.pid) as watching, opened(watching) as tab:
        tab.until(lambda seen: port in seen.latest["figures"]["ports"])
        with socket.create_connection(("127.0.0.1", port)) as client:
            address = f"127.0.0.1:{client.getsockname()[1]}"
            backend = tab.until(lambda seen: _holder(seen, address))
            assert backend != postmaster.pid
        tab.until(lambda seen: seen.happened(f"({backend}) ended with exit code 0"))
        assert tab.process(backend) is None


def test_its_own_questions_are_no_clients() -> None:
    """The server accepts and never answers, so that each question is there for a second."""
    code = "import socket\ns, held = socket.socket(fileno=0), []\nwhile True: held.append(s.accept())"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        silent = subprocess.Popen([sys.executable, "-c", code], stdin=listening)
    clients: list[str] = []

    def noted(seen: Stream) -> bool:
        if seen.kinds[-1] == "figures":
            clients.extend(peer for row in seen.latest["figures"]["processes"] for peer in row["clients"])
        return seen.kinds.count("figures") > 20

    with silent:
        try:
            with watched(url) as watching, opened(watching) as tab:
                tab.until(noted)
                assert "no answer within 1 s" in tab.latest["figures"]["engine_figures"]["reason"] and clients == []
                assert tab.process(silent.pid)["descriptors"] > 4, "it has accepted them"
        finally:
            silent.kill()


def test_a_connection_that_a_process_opened_itself_is_no_client_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]
        code = f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); time.sleep(600)"
        with family(program=("-c", code)) as (parent, children), watched(parent) as watching, opened(watching) as tab:
            for _ in children:
                elsewhere.accept()[0].close()
            tab.until(lambda seen: seen.kinds.count("xray") > 1)
            assert all(tab.process(pid)["clients"] == [] and tab.process(pid)["descriptors"] == 4 for pid in children)


class TestLookers:
    def test_without_a_tab_nothing_is_read(self) -> None:
        with family() as (parent, _), watched(parent) as watching:
            with opened(watching):
                pass
            before = -1
            while watching.read_calls() != before:  # until it has noticed that the tab is closed
                before = watching.read_calls()
                time.sleep(0.6)
            with opened(watching) as tab:
                tab.until(lambda seen: seen.kinds.count("figures") > 3)
                assert watching.read_calls() > before + 10

    def test_ten_tabs_are_told_the_same_and_a_slow_one_holds_up_nobody(self) -> None:
        with family() as (parent, children), watched(parent) as watching, contextlib.ExitStack() as held:
            watching.enter()
            slow = held.enter_context(watching.raw())
            cookie = "; ".join(f"{one.name}={one.value}" for one in watching.session.cookies)
            slow.sendall(
                f"GET {watching.path}events HTTP/1.1\r\nHost: {watching.host}\r\nCookie: {cookie}\r\n\r\n".encode()
            )
            tabs = [held.enter_context(watching.tab()) for _ in range(10)]
            for tab in tabs:
                tab.until(lambda seen: seen.process(children[0]))
            os.kill(children[0], signal.SIGKILL)
            for tab in tabs:
                tab.until(lambda seen: seen.happened(f"({children[0]}) ended by SIGKILL"))
            assert len(proc.read_thread_states(watching.process.pid)) >= 13
            held.close()
            with opened(watching) as tab:
                tab.until(lambda seen: len(proc.read_thread_states(watching.process.pid)) <= 5)

    def test_a_tab_that_comes_back_is_told_each_event_once(self) -> None:
        with family() as (parent, children), watched(parent) as watching:
            with opened(watching) as tab:
                os.kill(children[0], signal.SIGKILL)
                tab.until(lambda seen: seen.happened("ended by SIGKILL"))
                last = str(tab.events[-1]["number"])
            watching.session.headers["Last-Event-ID"] = last
            with watching.tab() as again:
                os.kill(children[1], signal.SIGKILL)
                again.until(lambda seen: seen.happened(f"({children[1]}) ended by SIGKILL"))
                assert not again.happened(f"({children[0]})")

    def test_a_child_that_loses_its_parent_stays_in_sight(self) -> None:
        with family() as (parent, children), watched(parent) as watching, opened(watching) as tab:
            tab.until(lambda seen: seen.process(children[1]))
            os.kill(parent, signal.SIGKILL)
            tab.until(lambda seen: seen.happened(f"({parent}) ended by SIGKILL"))
            tab.until(lambda seen: seen.process(children[0])["orphan"] and seen.process(children[1])["orphan"])
            for child in children:
                os.kill(child, signal.SIGKILL)
            tab.until(lambda seen: "over" in seen.latest)


class TestItsOwnEnd:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_at_once_with_an_open_stream_and_leaves_the_server(self, number: signal.Signals) -> None:
        with family() as (parent, children), watched(parent) as watching, opened(watching) as tab:
            watching.process.send_signal(number)
            tab.until(lambda seen: "over" in seen.latest)
            assert watching.process.wait(10) == 128 + number
            assert proc.read_process(parent).state in "SR" and proc.read_process(children[0]).state in "SR"

    def test_it_does_not_outlive_its_shell(self) -> None:
        shell = ("/bin/sh", "-c", '"$@" & echo $!; wait', "sh")
        with family() as (parent, _), watched(parent, program=shell) as watching:
            own = proc.read_process(int(watching.said[0])).identity
            watching.process.kill()
            watching.process.wait()
            while proc.is_running(own):
                time.sleep(0.01)

    @pytest.mark.parametrize(
        ("what", "words"),
        [
            ("999999999", "expected a running process"),
            ("http://example.org", "machine"),
            ("http://127.0.0.1:1", "listens"),
        ],
    )
    def test_what_it_cannot_watch_is_refused_in_one_line(self, what: str, words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "lab_support", "watch", what],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("lab watch: got") and words in done.stderr and done.stderr.count("\n") == 1


def _engines(seen: Stream) -> list[dict]:
    return seen.latest["figures"]["engine_figures"]["engines"]


def _holder(seen: Stream, address: str) -> int | None:
    """The process that alone has a client's connection."""
    found = [row["pid"] for row in seen.latest["figures"]["processes"] if address in row["clients"]]
    return found[0] if len(found) == 1 else None


def _pids(seen: Stream) -> set[int]:
    return {row["pid"] for row in seen.latest["figures"]["processes"] if row["state"] != "Z"}
