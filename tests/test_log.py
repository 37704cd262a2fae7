"""The log waits for no reader: a full pipe, a stopped terminal, a full disk cost lines, and never a process."""

import contextlib
import fcntl
import os
import pty
import re
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from lab_support.log import LONGEST, Outlet

LINES = 3000
TALKER = f"""
import logging, os, sys, threading, warnings
from lab_support.log import never_wait, set_up_log
never_wait()
set_up_log("info", "talker")
log = logging.getLogger("lab.talker")
for number in range({LINES}):
    log.info("line %d of many, with some more words to make it longer", number)
print("printed", file=sys.stderr)
print("printed, too, and that is longer than any line before, so that it can't go where none of those went any more")
warnings.warn("warned")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
os.close(int(sys.argv[1]))  # all is written
sys.stdin.readline()  # until we are told to go on
log.info("the last word")
raise SystemExit(7)
"""
LINE = re.compile(rb"\d\d:\d\d:\d\d lab:talker \d+ INFO line (\d+) of many, with some more words to make it longer")
DROPPED = re.compile(rb"\xe2\x80\xa6 (\d+) lines of the log of process \d+ dropped, because nobody reads them")


@contextlib.contextmanager
def talker(out: int, before: Callable[[], None] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """One that has written far more than fits, on stdout and stderr; it waits to be told to say a last word."""
    read, write = os.pipe()
    command = [sys.executable, "-c", TALKER, str(write)]
    streams = {"stdin": subprocess.PIPE, "stdout": out, "stderr": out}
    with subprocess.Popen(command, pass_fds=(write,), preexec_fn=before, **streams) as process:
        os.close(write)
        try:
            assert select.select([read], [], [], 20)[0], "it waits for a reader"
            yield process
        finally:
            os.close(read)
            process.kill()


def read_all(descriptor: int) -> bytes:
    """The present content."""
    os.set_blocking(descriptor, False)
    said = b""
    with contextlib.suppress(BlockingIOError, OSError):
        while piece := os.read(descriptor, 1 << 16):
            said += piece
    return said


def until_closed(descriptor: int) -> bytes:
    os.set_blocking(descriptor, True)
    said = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end
        while piece := os.read(descriptor, 1 << 16):
            said += piece
    return said


def go_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.write(b"\n")
    process.stdin.close()


def judge(first: bytes, last: bytes) -> None:
    """Lines are whole and in order, and those that arrived and those reported as missing add up to all."""
    lines = (first + last).replace(b"\r\n", b"\n").splitlines()
    came = [int(match[1]) for line in lines if (match := LINE.fullmatch(line))]
    assert came == list(range(len(came)))
    assert 0 < len(came) < LINES
    (dropped,) = [int(match[1]) for line in lines if (match := DROPPED.fullmatch(line))]
    assert dropped > LINES - len(came)  # those, and what came after them
    assert lines[-1].endswith(b"INFO the last word")
    assert len(lines) == len(came) + 2


def test_a_pipe_that_nobody_reads() -> None:
    read, write = os.pipe()
    with talker(write) as process:
        assert os.get_blocking(write)  # the description that we share with it is as it was
        os.close(write)
        first = read_all(read)
        go_on(process)
        judge(first, until_closed(read))
        assert process.wait() == 7
    os.close(read)


def test_a_line_that_was_written_in_part_is_finished_first() -> None:
    """A write of more than PIPE_BUF may go in part: pipe(7)."""
    read, write = os.pipe()
    room = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    outlet = Outlet(os.dup(write))
    long = b"x" * (LONGEST - 1) + b"\n"
    assert outlet.write(b"y" * (room // 2 - 1) + b"\n") == ""
    assert outlet.write(long) == "nobody reads them"
    assert outlet.write(b"lost\n") == "nobody reads them"
    begun = read_all(read)
    assert outlet.write(b"heard\n") == ""
    said = (begun + read_all(read)).splitlines(keepends=True)
    assert said[1] == long
    assert re.fullmatch(r"… 1 line of the log of process \d+ dropped, because nobody reads them\n", said[2].decode())
    assert said[3:] == [b"heard\n"]
    for descriptor in (read, write, outlet.descriptor):
        os.close(descriptor)


def test_a_terminal_that_is_stopped() -> None:
    """Ctrl-S, typed before anything was written; Ctrl-Q later."""
    main, terminal = pty.openpty()
    os.write(main, b"\x13")
    while select.select([], [terminal], [], 0)[1]:  # the kernel takes in what is typed a moment later
        time.sleep(0.001)
    with talker(terminal) as process:
        assert b"line" not in read_all(main)
        os.set_blocking(main, True)
        os.write(main, b"\x11")
        assert select.select([], [terminal], [], 30)[1]
        os.close(terminal)
        go_on(process)
        *_, note, last = until_closed(main).replace(b"\r\n", b"\n").splitlines()
        assert DROPPED.fullmatch(note)
        assert last.endswith(b"INFO the last word")
        assert process.wait() == 7
    os.close(main)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_nobody_reads(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, talker(theirs.fileno()) as process:
        theirs.close()
        first = read_all(ours.fileno())
        go_on(process)
        judge(first, until_closed(ours.fileno()))
        assert process.wait() == 7


def test_a_pipe_that_cant_be_opened_again_is_asked_for_room_before_each_write() -> None:
    read, write = os.pipe()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        outlet = Outlet(write)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.get_blocking(write)
    written = 0
    while not outlet.write(b"%099d\n" % written):
        written += 1
    assert outlet.write(b"lost\n") == "nobody reads them"
    first = read_all(read)
    assert outlet.write(b"heard\n") == ""
    *came, note, last = (first + read_all(read)).splitlines()
    assert [int(line) for line in came] == list(range(written))
    assert b" 2 lines of the log " in note
    assert last == b"heard"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("what", ["a full disk", "a pipe whose reader has gone", "nothing: it is closed"])
def test_what_can_not_be_written_at_all(what: str) -> None:
    read, write = os.pipe()
    os.close(read)
    full = os.open("/dev/full", os.O_WRONLY)
    before = (lambda: os.closerange(1, 3)) if what.startswith("nothing") else None
    with talker(full if "disk" in what else write, before) as process:
        go_on(process)
        assert process.wait() == 7
    os.close(write)
    os.close(full)


def test_the_number_of_a_closed_stderr_is_nobody_elses() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from lab_support.log import never_wait; never_wait(); print(os.open('/dev/null', 0))",
        ],
        preexec_fn=lambda: os.close(2),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert int(said) > 2
