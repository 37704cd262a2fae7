"""The kernel's answers about real processes: by kcmp and sock_diag, by the fallbacks, and as the user nobody."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from lab_support.instruments import audit, kernel, proc, sockets, strace
from tests.instruments.as_nobody import as_nobody, in_a_sandbox, needs_root, needs_x86_64

WAITS = "import sys; print(flush=True); sys.stdin.read()"
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")


@contextlib.contextmanager
def child(code: str = WAITS, *numbers: int) -> Iterator[subprocess.Popen]:
    """A child that has `numbers` open under the same numbers and has said that it is ready."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, numbers)]
    with subprocess.Popen(command, pass_fds=numbers, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.stdin.close()
            process.kill()


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


# ---- one open file description or two --------------------------------------------------------------------------------


@pytest.mark.parametrize("means", kernel.MEANS)
def test_a_socket_that_was_handed_on_is_one_open_file_description(means):
    with socket.create_server(("127.0.0.1", 0)) as here, child(WAITS, here.fileno()) as other:
        answer = kernel.same_open_file_description(os.getpid(), here.fileno(), other.pid, here.fileno(), means=(means,))
    assert answer == kernel.Sameness(True, means)


@pytest.mark.parametrize("means", kernel.MEANS)
def test_two_sockets_are_two(means):
    with socket.socket() as one, socket.socket() as two:
        answer = kernel.same_open_file_description(os.getpid(), one.fileno(), os.getpid(), two.fileno(), means=(means,))
    assert answer.same is False


@pytest.mark.parametrize("means", [kernel.KCMP, kernel.FLAG])
def test_a_file_opened_twice_is_two_and_a_copied_descriptor_one(means, tmp_path):
    with open(tmp_path / "file", "w") as one, open(tmp_path / "file", "w") as two:
        copy, me = os.dup(one.fileno()), os.getpid()
        answers = [
            kernel.same_open_file_description(me, one.fileno(), me, n, means=(means,)) for n in (two.fileno(), copy)
        ]
        os.close(copy)
    assert [answer.same for answer in answers] == [False, True]


def test_the_inode_alone_cannot_tell_a_file_opened_twice_and_says_so(tmp_path):
    with open(tmp_path / "file", "w") as one, open(tmp_path / "file", "w") as two:
        numbers = os.getpid(), one.fileno(), os.getpid(), two.fileno()
        answer = kernel.same_open_file_description(*numbers, means=(kernel.INODE,))
        assert answer.same is None and "open more than once" in answer.reason
        after = kernel.same_open_file_description(*numbers, means=(kernel.INODE, kernel.FLAG))
    assert (after.same, after.how) == (False, kernel.FLAG) and answer.reason in after.reason


def test_the_two_ends_of_a_pipe_are_two():
    with pipe() as (read, write):
        for means in kernel.MEANS:
            assert (
                kernel.same_open_file_description(os.getpid(), read, os.getpid(), write, means=(means,)).same is False
            )


def test_the_flag_is_as_it_was_after_the_question():
    with pipe() as (read, _), child(WAITS, read) as other:
        before = proc.PROC.joinpath("self/fdinfo", str(read)).read_text()
        assert kernel.same_open_file_description(os.getpid(), read, other.pid, read, means=(kernel.FLAG,)).same
        assert proc.PROC.joinpath("self/fdinfo", str(read)).read_text() == before


def test_between_two_strangers_no_flag_can_be_set_and_it_says_so():
    with pipe() as (read, _), child(WAITS, read) as one, child(WAITS, read) as two:
        answer = kernel.same_open_file_description(one.pid, read, two.pid, read, means=(kernel.FLAG,))
        assert answer.same is None and "neither process is this one" in answer.reason


def test_a_process_that_is_gone_is_a_reason():
    gone = subprocess.Popen(["true"])
    gone.wait()
    answer = kernel.same_open_file_description(os.getpid(), 0, gone.pid, 0)
    assert answer.same is None and "ended" in answer.reason


THREAD = """
import ctypes, sys, threading

def run(own_table):
    if own_table:
        ctypes.CDLL(None).unshare(0x400)  # CLONE_FILES
    print(threading.get_native_id(), flush=True)
    threading.Event().wait()

for own_table in (False, True):
    threading.Thread(target=run, args=[own_table], daemon=True).start()
sys.stdin.read()
"""


def test_threads_share_memory_and_mostly_the_descriptor_table_and_children_neither():
    command = [sys.executable, "-c", THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        threads = [int(other.stdout.readline()) for _ in range(2)]
        tables = {kernel.same_descriptor_table(other.pid, thread).same for thread in threads}
        assert tables == {True, False}
        assert [kernel.same_memory(other.pid, thread).same for thread in threads] == [True, True]
        assert kernel.same_descriptor_table(os.getpid(), other.pid).same is False
        assert kernel.same_memory(os.getpid(), other.pid).same is False
        other.stdin.close()


# ---- accept queues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("means", "limit"), [(sockets.SOCK_DIAG, 7), (sockets.PROC_NET, None)])
def test_the_accept_queue_has_those_that_nobody_accepted(means, limit):
    with socket.create_server(("127.0.0.1", 0), backlog=7) as server, contextlib.ExitStack() as clients:
        port = server.getsockname()[1]
        for _ in range(3):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        found = kernel.accept_queues(port, means=(means, sockets.PROC_NET))
        assert found.how == means and bool(found.reason) == (limit is None)
        [queue] = found.queues
        assert (queue.waiting, queue.limit, queue.inode) == (3, limit, os.fstat(server.fileno()).st_ino)
        server.accept()[0].close()
        assert kernel.accept_queues(port).waiting == 2
    assert kernel.accept_queues(port).queues == ()


def test_with_reuseport_each_socket_has_a_queue_of_its_own():
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
        two = stack.enter_context(socket.create_server(one.getsockname(), reuse_port=True))
        queues = kernel.accept_queues(one.getsockname()[1]).queues
        assert {queue.inode for queue in queues} == {os.fstat(each.fileno()).st_ino for each in (one, two)}


def test_both_means_see_the_same_sockets(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening, socket.create_server(("127.0.0.1", 0)) as server:
        listening.bind(str(tmp_path / "door"))
        listening.listen(5)
        with socket.create_connection(server.getsockname()) as client, socket.socket(socket.AF_UNIX) as other:
            accepted = server.accept()[0]
            other.connect(str(tmp_path / "door"))
            served = listening.accept()[0]
            mine = {os.fstat(each.fileno()).st_ino: each for each in (listening, server, client, accepted, served)}
            by_netlink, by_proc = (sockets.read_sockets(means=(means, sockets.PROC_NET)) for means in sockets.MEANS)
            for inode in mine:
                one, two = by_netlink.sockets[inode], by_proc.sockets[inode]
                assert (one.state, one.address, one.peer_address) == (two.state, two.address, two.peer_address)
            ends = [os.fstat(each.fileno()).st_ino for each in (other, served)]
            assert by_netlink.sockets[ends[0]].peer_inode == ends[1]
            assert by_netlink.sockets[ends[1]].peer_inode == ends[0]
            assert by_proc.sockets[ends[0]].peer_inode == 0 and "other ends" in by_proc.reason
            accepted.close()
            served.close()


def test_a_full_accept_queue_overflows_and_is_counted():
    before = kernel.listen_overflows()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as clients:
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        deadline = time.monotonic() + 20
        while not (more := kernel.listen_overflows().since(before)).overflows and time.monotonic() < deadline:
            time.sleep(0.001)
    assert more.overflows >= 1 and more.drops >= more.overflows and not more.reason


def test_counters_that_are_not_there_are_a_reason():
    missing = kernel.listen_overflows(2**22 + 1)
    assert missing.overflows is None and "No such file" in missing.reason
    assert missing.since(kernel.listen_overflows()).reason


# ---- wake-ups --------------------------------------------------------------------------------------------------------

ACCEPTS = """
import select, socket, sys
server = socket.socket(fileno=int(sys.argv[1]))
print(flush=True)
while True:
    connection, _ = server.accept()
    connection.close()
"""
POLLS = """
import select, socket, sys
server = socket.socket(fileno=int(sys.argv[1]))
server.setblocking(False)
poll = select.epoll()
poll.register(server, select.EPOLLIN)
print(flush=True)
while True:
    poll.poll()
    try:
        server.accept()[0].close()
    except BlockingIOError:
        pass
"""


def wake_ups_of(code: str, workers: int, connections: int = 40) -> kernel.WakeUps:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pids = [stack.enter_context(child(code, server.fileno())).pid for _ in range(workers)]

        def connect_one_by_one() -> None:
            for _ in range(connections):
                kernel.wait_until_asleep(pids)
                with socket.create_connection(server.getsockname()) as client:
                    assert client.recv(1) == b""

        return kernel.count_wake_ups(pids, connect_one_by_one, connections, idle_seconds=0.1)


def test_epoll_wakes_every_process_and_accept_wakes_one():
    herd, one = wake_ups_of(POLLS, 4), wake_ups_of(ACCEPTS, 4)
    assert one.per_connection < 2 < 2.5 < herd.per_connection, (one, herd)
    assert not herd.reason


def test_what_happens_anyway_is_taken_off():
    ticks = "import time; print(flush=True)\nwhile True: time.sleep(0.002)"
    with child(ticks) as other:
        counted = kernel.count_wake_ups([other.pid], lambda: time.sleep(0.5), 1, idle_seconds=0.5)
    assert counted.switches > 20 and counted.for_the_work < counted.switches / 2, counted


def test_whoever_spins_never_sleeps():
    with child() as asleep, child("print(flush=True)\nwhile True: pass") as spinning:
        assert kernel.wait_until_asleep([asleep.pid], 60)
        assert not kernel.wait_until_asleep([asleep.pid, spinning.pid], 0.1)


def test_a_process_that_never_was_is_a_reason():
    assert "no process 4194305" in kernel.count_wake_ups([2**22 + 1], lambda: None, 1, idle_seconds=0).reason


def test_a_process_that_ends_during_the_work_is_a_reason():
    with child() as other:

        def end_it() -> None:
            other.stdin.close()
            other.wait()

        assert "1 threads ended" in kernel.count_wake_ups([other.pid], end_it, 1, idle_seconds=0).reason


# ---- descriptor messages ---------------------------------------------------------------------------------------------

STARTS_A_CHILD = """
import json, multiprocessing, socket, sys
from lab_support.instruments import audit

def nothing(listening):
    pass

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening, audit.unix_sends() as sends:
        given = listening if sys.argv[2:] != ["nothing"] else None
        process = multiprocessing.get_context(sys.argv[1]).Process(target=nothing, args=(given,))
        process.start()
        process.join()
        print(json.dumps([[send.carries_descriptors, send.carries(listening.fileno())] for send in sends]))
"""


@pytest.fixture
def starts_a_child(tmp_path):
    path = tmp_path / "starts_a_child.py"
    path.write_text(STARTS_A_CHILD)
    return path


@pytest.mark.parametrize(("method", "messages"), [("fork", 0), ("spawn", 0), ("forkserver", 1)])
def test_only_the_fork_server_is_sent_descriptors(method, messages, starts_a_child):
    said = subprocess.run([sys.executable, starts_a_child, method], capture_output=True, text=True, timeout=60)
    assert json.loads(said.stdout) == [[True, True]] * messages, said.stderr


def test_a_fork_server_s_message_without_the_socket_does_not_carry_it(starts_a_child):
    command = [sys.executable, starts_a_child, "forkserver", "nothing"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert json.loads(said.stdout) == [[True, False]], said.stderr


def test_the_hook_counts_sends_on_unix_sockets_until_the_end():
    one, two = socket.socketpair()
    with one, two, audit.unix_sends() as sends:
        socket.send_fds(one, [b"x"], [0])
        one.sendmsg([b"plain"])
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as tcp:
            tcp.sendmsg([b"over TCP"])
    three, four = socket.socketpair()
    with three, four:
        three.sendmsg([b"after"])
    assert [send.carries_descriptors for send in sends] == [True, None]
    assert sends[0].caller == "socket.send_fds"


def test_a_message_carries_a_descriptor_also_by_its_duplicate():
    one, two = socket.socketpair()
    with one, two, audit.unix_sends() as sends:
        duplicate = os.dup(two.fileno())
        socket.send_fds(one, [b"x"], [0, duplicate])
        os.close(duplicate)
        one.sendmsg([b"plain"])
        assert [send.carries(two.fileno()) for send in sends] == [True, False]
        assert not any(send.carries(one.fileno()) for send in sends)


@needs_strace
@pytest.mark.parametrize(("method", "messages", "maker"), [("fork", 0, "clone"), ("spawn", 0, "vfork")])
def test_strace_shows_how_a_process_is_made(method, messages, maker, starts_a_child):
    trace = strace.trace_command([sys.executable, str(starts_a_child), method])
    assert (trace.exit_code, trace.reason) == (0, "")
    assert len(trace.descriptor_messages) == messages and maker in {call.name for call in trace.processes_made}
    assert bool(len(trace.named("execve")) > 1) == (method == "spawn")


@needs_strace
def test_strace_sees_the_descriptors_of_the_fork_server(starts_a_child):
    trace = strace.trace_command([sys.executable, str(starts_a_child), "forkserver"])
    [message] = trace.descriptor_messages
    received = [call for call in trace.named("recvmsg") if call.descriptors]
    assert len(message.descriptors) >= 4 and len(received) == 1
    assert len(received[0].descriptors) == len(message.descriptors) and received[0].pid != message.pid


@needs_strace
def test_strace_watches_a_running_process_and_lets_it_go():
    with socket.create_server(("127.0.0.1", 0)) as server, child(ACCEPTS, server.fileno()) as other:

        def connect() -> None:
            with socket.create_connection(server.getsockname()) as client:
                client.recv(1)

        trace = strace.trace_processes([other.pid], connect)
        assert trace.reason == ""
        assert any(call.result and call.result > 0 for call in trace.named("accept", "accept4"))
        connect()


@needs_strace
def test_a_command_that_does_not_end_is_killed_and_the_trace_says_so():
    trace = strace.trace_command(["sh", "-c", "sleep 100 & sleep 100"], timeout=1)
    assert "killed after 1 s" in trace.reason and trace.named("execve")


def test_without_strace_it_says_so_and_the_work_is_done(monkeypatch):
    monkeypatch.setenv("PATH", "")
    done = []
    assert "not installed" in strace.trace_command(["true"]).reason
    assert "not installed" in strace.trace_processes([os.getpid()], lambda: done.append(1)).reason
    assert done == [1]


def test_a_call_that_another_thread_interrupted_is_read_whole():
    lines = (
        "10.5 accept4(3,  <unfinished ...>\n10.6 --- SIGCHLD {si_signo=SIGCHLD} ---\n"
        "10.7 <... accept4 resumed>NULL, NULL, SOCK_CLOEXEC) = 7\n10.8 epoll_wait(4, [], 1, 0) = -1 EINTR (Inter…)\n"
        "10.9 clone(flags=CLONE_VM|CLONE_THREAD) = 12\n11.0 exit_group(0) = ?\n"
    )
    accept, wait, clone, leave = strace.parse(lines, 9)
    assert (accept.at, accept.result, accept.arguments) == (10.5, 7, "3, NULL, NULL, SOCK_CLOEXEC")
    assert (wait.result, wait.error) == (-1, "EINTR")
    assert not clone.makes_process and leave.result is None


# ---- as an ordinary user ---------------------------------------------------------------------------------------------


def everything() -> dict[str, object]:
    """Each question once, on a forked child of the process that runs this, without any program on the PATH."""
    os.environ["PATH"] = ""
    with socket.create_server(("127.0.0.1", 0), backlog=5) as server:
        number, port = server.fileno(), server.getsockname()[1]
        forked = os.fork()
        if forked == 0:
            while True:
                server.accept()[0].close()
        assert kernel.wait_until_asleep([forked])
        numbers = os.getpid(), number, forked, number

        def connect() -> None:
            with socket.create_connection(server.getsockname()) as client:
                client.recv(1)

        found: dict[str, object] = {
            "same": [kernel.same_open_file_description(*numbers, means=(means,)).same for means in kernel.MEANS],
            "limit": kernel.accept_queues(port).queues[0].limit,
            "waiting": kernel.accept_queues(port, means=(sockets.PROC_NET,)).waiting,
            "overflows": kernel.listen_overflows().reason,
            "wake-ups": kernel.count_wake_ups([forked], connect, 1, idle_seconds=0.05).switches,
            "strace": strace.trace_processes([forked], connect).reason,
        }
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)
        return found


def check_everything(found: dict[str, object]) -> None:
    assert found["same"] == [True, True, True]
    assert (found["limit"], found["waiting"], found["overflows"]) == (5, 0, "")
    assert found["wake-ups"] >= 1
    assert "not installed" in found["strace"]


@needs_root
def test_an_ordinary_user_without_strace_is_answered_all_the_same():
    check_everything(as_nobody(everything))


@needs_x86_64
def test_in_a_sandbox_the_fall_backs_answer_and_say_why():
    with socket.create_server(("127.0.0.1", 0)) as server, child(WAITS, server.fileno()) as other:
        numbers, port = (os.getpid(), server.fileno(), other.pid, server.fileno()), server.getsockname()[1]
        same, queues = in_a_sandbox(lambda: (kernel.same_open_file_description(*numbers), kernel.accept_queues(port)))
    assert (same.same, same.how) == (True, kernel.INODE) and "kcmp: EPERM" in same.reason
    assert queues.how == sockets.PROC_NET and queues.queues[0].limit is None
    assert "sock_diag is refused here" in queues.reason


@needs_root
def test_of_another_users_process_nothing_is_told_and_why():
    with socket.socket() as mine:
        numbers = os.getpid(), mine.fileno(), os.getppid(), 0
        answer = as_nobody(lambda: kernel.same_open_file_description(*numbers))
    assert answer.same is None and "another user's" in answer.reason and "neither process" in answer.reason
