"""/proc as read from real processes that share a real listening socket."""

import ctypes
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab_support.instruments import proc
from tests.instruments.as_nobody import as_nobody, needs_root

CHILD = """
import os, select, socket, subprocess, sys, threading
listener = socket.socket(fileno=int(sys.argv[1]))
pipe, memory, poll = os.pipe(), os.memfd_create("pages"), select.epoll()
grandchild = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(grandchild.pid, memory, poll.fileno(), flush=True)
sys.stdin.readline()
grandchild.communicate()
"""


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@contextmanager
def child_that_holds(listening: socket.socket) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """A child with the inherited socket, a grandchild, a second thread, and what it said its numbers are."""
    number = str(listening.fileno())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD, number], pass_fds=[listening.fileno()], **pipes) as child:
        yield child, [int(word) for word in child.stdout.readline().split()]
        child.stdin.close()


def test_a_process_is_read_with_its_parent_and_its_threads():
    with listener() as listening, child_that_holds(listening) as (child, _):
        process = proc.read_process(child.pid)
        assert (process.pid, process.parent_pid) == (child.pid, os.getpid())
        assert process.threads == 2
        assert process.title.startswith(sys.executable)
        assert process.state in "RSD"
        assert proc.is_running(process.identity)
        assert not proc.is_running(proc.Identity(child.pid, process.identity.start_ticks + 1))
    assert not proc.is_running(process.identity)
    assert proc.read_process(child.pid) is None


def test_a_process_that_ended_but_was_not_waited_for_does_not_run():
    child = subprocess.Popen([sys.executable, "-c", ""])
    ended = os.pidfd_open(child.pid)
    assert select.select([ended], [], [], 60)[0]
    process = proc.read_process(child.pid)
    assert process.ended and not proc.is_running(process.identity)
    assert proc.read_memory(child.pid) is None
    os.close(ended)
    child.wait()


@needs_root
def test_to_an_ordinary_user_too_who_ended_but_was_not_waited_for_has_nothing():
    def look():
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        seen = proc.read_descriptors(child.pid), proc.read_memory(child.pid), proc.mapped_libraries(child.pid)
        child.wait()
        return seen

    assert as_nobody(look) == ([], None, frozenset())


def test_a_name_with_spaces_and_parentheses_is_read_whole():
    libc = ctypes.CDLL(None)
    before = proc.read_process(os.getpid()).name
    libc.prctl(15, b"a) R (b", 0, 0, 0)  # PR_SET_NAME
    try:
        process = proc.read_process(os.getpid())
        assert (process.name, process.parent_pid) == ("a) R (b", os.getppid())
    finally:
        libc.prctl(15, before.encode(), 0, 0, 0)


def test_the_tree_below_a_pid_has_children_and_grandchildren():
    with listener() as listening, child_that_holds(listening) as (child, [grandchild, *_]):
        assert [process.pid for process in proc.process_tree(child.pid)] == [child.pid, grandchild]
        assert {child.pid, grandchild} <= {process.pid for process in proc.process_tree(os.getpid())}
    assert proc.process_tree(child.pid) == []


def test_one_listening_socket_has_two_holders_and_one_inode():
    with listener() as listening, child_that_holds(listening) as (child, _):
        port = listening.getsockname()[1]
        holders = proc.holders_of_listening_socket(port)
        assert {(holder.process.pid, holder.number) for holder in holders} == {
            (os.getpid(), listening.fileno()),
            (child.pid, listening.fileno()),
        }
        assert {holder.socket.inode for holder in holders} == {os.fstat(listening.fileno()).st_ino}
        assert holders[0].socket.address == f"127.0.0.1:{port}"
    assert proc.holders_of_listening_socket(port) == []


def test_connections_that_nobody_accepts_are_counted_in_the_queue():
    with listener() as listening:
        inode, address = os.fstat(listening.fileno()).st_ino, listening.getsockname()
        clients = [socket.create_connection(address) for _ in range(3)]
        assert proc.listening_sockets()[inode].queued == 3
        for client in clients:
            client.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_read():
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    with listening:
        found = proc.listening_sockets()[os.fstat(listening.fileno()).st_ino]
        assert found.address == f"[::1]:{listening.getsockname()[1]}"


def test_a_unix_socket_listens_at_its_path(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "door"))
        listening.listen()
        found = proc.listening_sockets()[os.fstat(listening.fileno()).st_ino]
        assert (found.address, found.port) == (str(tmp_path / "door"), 0)


def test_descriptors_say_what_they_are():
    with listener() as listening, child_that_holds(listening) as (child, [_, memory, poll]):
        table = {descriptor.number: descriptor for descriptor in proc.read_descriptors(child.pid)}
        assert table[listening.fileno()].kind == "listening socket"
        assert (table[memory].kind, table[memory].about) == ("memfd", "pages")
        assert table[poll].kind == "epoll"
        assert table[0].kind == table[1].kind == "pipe"
    assert proc.read_descriptors(child.pid) == []


def test_memory_that_is_private_is_no_more_than_what_is_shared_out():
    memory = proc.read_memory(os.getpid())
    assert 0 < memory.uss <= memory.pss <= memory.rss


def test_memory_that_a_process_fills_is_seen():
    before = proc.read_memory(os.getpid())
    with mmap.mmap(-1, 32 << 20) as ballast:  # malloc may hand out what is filled already
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        after = proc.read_memory(os.getpid())
        assert after.uss - before.uss >= 0.9 * len(ballast)


def test_libraries_are_those_that_are_mapped():
    libraries = proc.mapped_libraries(os.getpid())
    assert any(name.startswith("libc.so") for name in libraries)
    assert proc.maps_library(os.getpid(), "libc.so")
    assert not proc.maps_library(os.getpid(), "libno_such_thing")


def test_each_sleep_is_a_voluntary_context_switch():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
        cat.stdin.write(b"x")
        assert cat.stdout.read(1) == b"x"
        before = proc.read_context_switches(cat.pid)
        for _ in range(50):
            while proc.read_process(cat.pid).state != "S":
                time.sleep(0.001)  # on a busy core it may be preempted before it sleeps, and never needs to sleep
            cat.stdin.write(b"x")
            assert cat.stdout.read(1) == b"x"
        after = proc.read_context_switches(cat.pid)
        cat.stdin.close()
    assert 40 <= after.voluntary - before.voluntary <= 60


def test_cpu_time_grows_while_a_process_runs():
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        busy.stdout.readline()
        first = proc.read_process(busy.pid).cpu_seconds
        while proc.read_process(busy.pid).cpu_seconds < first + 0.05:
            time.sleep(0.001)
        busy.send_signal(signal.SIGKILL)


def test_a_process_that_never_was_is_nothing_and_no_error():
    pid = 2**22 + 1  # above the kernel's highest possible pid
    assert (proc.read_process(pid), proc.read_memory(pid), proc.read_context_switches(pid)) == (None, None, None)
    assert (proc.process_tree(pid), proc.read_descriptors(pid), proc.mapped_libraries(pid)) == ([], [], frozenset())


def test_elsewhere_than_on_linux_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(proc.NotLinux, match="got darwin, expected Linux"):
        proc.read_process(1)
