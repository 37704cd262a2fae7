"""The writing end: nothing is lost but what the text says, no file is written through a link, and room is bounded."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

from lab_support.instruments.trace.read import read_run
from lab_support.tracing.events import Queued
from lab_support.tracing.files import TraceFiles
from lab_support.tracing.trace import FileTrace, NoTrace, make_trace

RUN = "0123abcd"
LIMIT = 1024 * 1024

CHILD = """
import os, signal, sys
from lab_support.tracing.events import Queued
from lab_support.tracing.files import TraceFiles
from lab_support.tracing.trace import make_trace

trace = make_trace(TraceFiles(sys.argv[1], "0123abcd", 1 << 20), "engine-0")
trace.milestone("first code")
"""
KILLED = (
    "trace.add(Queued(1.0, 0, 7)); trace.write(); trace.add(Queued(2.0, 0, 8)); os.kill(os.getpid(), signal.SIGKILL)"
)
BACKGROUND = """
trace.write_in_background()
trace.add(Queued(1.0, 0, 7))
while not os.path.getsize(next(os.scandir(sys.argv[1])).path) > size: pass
os.kill(os.getpid(), signal.SIGKILL)
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
for number in range(100):
    trace.add(Queued(1.0, 0, number)); trace.write()
print("alive")
"""


def child(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CHILD + code, str(folder)], capture_output=True, text=True, timeout=60)


def trace_in(folder: Path, limit: int = LIMIT, role: str = "api-0") -> FileTrace:
    return FileTrace(TraceFiles(str(folder), RUN, limit), role, 0)


def events_in(folder: Path) -> list:
    return [event for process in read_run(folder).processes for event in process.events]


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = TraceFiles(str(tmp_path / "new" / "folder"), RUN, LIMIT)
        files.make_directory()
        trace = make_trace(files, "api-0")
        trace.milestone("first code")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o700
    (file,) = (tmp_path / "new" / "folder").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.name == f"{RUN}.api-0.{os.getpid()}.0.trace"


def test_no_link_is_followed_and_no_file_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    name = f"{RUN}.api-0.{os.getpid()}.0.trace"
    (tmp_path / name).symlink_to(target)
    trace = trace_in(tmp_path)
    trace.milestone("first code")
    assert target.read_text() == "precious"
    (tmp_path / name).unlink()
    (tmp_path / name).write_text("mine")
    trace.milestone("imports done")
    assert (tmp_path / name).read_text() == "mine"


def test_nothing_is_lost_when_threads_add_while_another_writes(tmp_path: Path) -> None:
    trace, each = trace_in(tmp_path, limit=64 * LIMIT), 20_000

    def add(client: int) -> None:
        for number in range(each):
            trace.add(Queued(1.0, client, number))

    threads = [threading.Thread(target=add, args=(client,)) for client in range(3)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet in every place
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        trace.write()
    sys.setswitchinterval(before)
    trace.close()
    found = [(event.client, event.sequence) for event in events_in(tmp_path)]
    assert sorted(found) == [(client, number) for client in range(3) for number in range(each)]
    assert read_run(tmp_path).notes == []


def test_sigkill_loses_the_last_buffer_alone(tmp_path: Path) -> None:
    assert child(tmp_path, KILLED).returncode == -signal.SIGKILL
    assert events_in(tmp_path) == [Queued(1.0, 0, 7)]
    assert read_run(tmp_path).notes == []


def test_events_reach_the_file_without_an_end(tmp_path: Path) -> None:
    """The thread writes them: nobody else does here before SIGKILL."""
    size = "size = os.path.getsize(next(os.scandir(sys.argv[1])).path)\n"
    assert child(tmp_path, size + BACKGROUND).returncode == -signal.SIGKILL
    assert events_in(tmp_path) == [Queued(1.0, 0, 7)]


def test_a_full_disk_drops_events_and_the_process_goes_on(tmp_path: Path) -> None:
    done = child(tmp_path, FULL_DISK)
    assert done.stdout == "alive\n", done.stderr
    assert done.stderr.count("the trace can't be written") == 1
    run = read_run(tmp_path)
    assert 0 < len(run.processes[0].events) < 100


def test_dropped_events_are_counted_once_there_is_room_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    trace = trace_in(folder)
    for number in range(5):
        trace.add(Queued(1.0, 0, number))
    trace.write()  # there is no folder yet
    folder.mkdir()
    trace.add(Queued(2.0, 0, 5))
    trace.write()
    assert events_in(folder) == [Queued(2.0, 0, 5)]
    assert any("5 events could not be written" in note for note in read_run(folder).notes)


def fill(trace: FileTrace, blocks: int, base: int = 0) -> None:
    for number in range(blocks):
        for event in range(100):
            trace.add(Queued(1.0, 0, base + 100 * number + event))
        trace.write()


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_room_is_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    trace = trace_in(tmp_path)
    trace.milestone("first code")
    fill(trace, 1000)
    assert size_of(tmp_path) <= LIMIT
    run = read_run(tmp_path)
    left = [event.sequence for event in events_in(tmp_path)]
    assert left[-1] == 99_999
    assert left == list(range(left[0], 100_000)) and left[0] > 0
    assert [each.stage for each in run.processes[0].milestones] == ["first code"]  # repeated in each part
    assert any("older events have been removed" in note for note in run.notes)


def test_a_part_in_use_stays_and_so_does_what_is_no_trace(tmp_path: Path) -> None:
    quiet = trace_in(tmp_path, role="coordinator")
    quiet.milestone("READY")
    (tmp_path / "notes.txt").write_text("x" * LIMIT)
    (tmp_path / f"{RUN}.api-0.1.0.trace.bak").write_text("x" * LIMIT)
    (tmp_path / f"{RUN}.api-9.1.0.trace").symlink_to(tmp_path / "notes.txt")
    fill(trace_in(tmp_path), 1000)
    roles = {process.role for process in read_run(tmp_path).processes}
    assert "coordinator" in roles
    assert (tmp_path / "notes.txt").exists() and (tmp_path / f"{RUN}.api-0.1.0.trace.bak").exists()
    assert (tmp_path / f"{RUN}.api-9.1.0.trace").is_symlink()


def test_the_traces_of_ended_processes_go_first(tmp_path: Path) -> None:
    for _ in range(3):
        child(tmp_path, "trace.close()")
    assert len(list(tmp_path.iterdir())) == 3
    fill(trace_in(tmp_path), 1000)
    assert {process.role for process in read_run(tmp_path, RUN).processes} == {"api-0"}


def test_without_a_folder_nothing_happens() -> None:
    trace = make_trace(None, "api-0")
    assert isinstance(trace, NoTrace) and not trace.on
    trace.milestone("first code")
    trace.first("first token")
    trace.add(Queued(1.0, 0, 1))
    trace.write_in_background()
    trace.close()
    assert "trace" not in {thread.name for thread in threading.enumerate()}
