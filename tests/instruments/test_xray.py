"""X-rays of real process trees: their holders are checked against the tree's own reports and against `ss`."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from lab_support.instruments import proc, process_name
from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray import read as xray_read
from lab_support.instruments.xray import rows as xray_rows
from lab_support.instruments.xray import svg as xray_svg
from lab_support.instruments.xray import text as xray_text
from lab_support.instruments.xray.graph import Graph, Hold, KernelObject, ProcessNode
from lab_support.plural import counted
from tests.instruments.as_nobody import as_nobody, in_a_sandbox, needs_root, needs_x86_64
from tests.instruments.postgres import postgresql
from tests.running_server import RunningServer

SVG = "{http://www.w3.org/2000/svg}"
JUPYTERLAB_SHOWS = 848  # pixels of a picture, in a window of 1280 with the list of files open

# A parent with two forked children and one of everything; what it says is which number is what.
TREE = """
import json, mmap, os, select, signal, socket, sys

listening = socket.create_server(("127.0.0.1", 0), backlog=9)
memory = os.memfd_create("pages"); os.ftruncate(memory, 8192); pages = mmap.mmap(memory, 8192)
shared_poll = select.epoll()
eventfd = os.eventfd(0)
read, write = os.pipe()
mine, childs = socket.socketpair()
unbound = socket.socket()
children = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        own_poll = select.epoll()
        own_poll.register(listening, select.EPOLLIN | (select.EPOLLEXCLUSIVE if number else 0))
        mine.close()
        os.close(write)
        if number:
            childs.close(); os.close(eventfd)
            os.dup2(read, 60)
        os.write(1, b"%d\\n" % own_poll.fileno())
        signal.pause()
    children.append(pid)
childs.close(); os.close(read)
names = dict(listening=listening.fileno(), memory=memory, shared_poll=shared_poll.fileno(), eventfd=eventfd, read=read,
             write=write, mine=mine.fileno(), children=children, port=listening.getsockname()[1],
             unbound=unbound.fileno(), inode=os.fstat(listening.fileno()).st_ino)
os.write(1, json.dumps(names).encode() + b"\\n")
for line in sys.stdin:
    if line == "leak\\n":
        leaked = [socket.socket() for _ in range(5)]
    if line == "accept\\n":
        served = listening.accept()
    os.write(1, b"done\\n")
"""


@dataclass
class Tree:
    """A running tree. numbers: what it said; polls: its children's own epoll sets."""

    process: subprocess.Popen
    numbers: dict
    polls: list[int]

    @property
    def children(self) -> list[int]:
        return self.numbers["children"]

    def order(self, word: str) -> None:
        self.process.stdin.write(word.encode() + b"\n")
        assert self.process.stdout.readline() == b"done\n"


@contextlib.contextmanager
def tree() -> Iterator[Tree]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen([sys.executable, "-c", TREE], **pipes) as process:
        lines = sorted((process.stdout.readline() for _ in range(3)), key=len)
        running = Tree(process, json.loads(lines[2]), [int(line) for line in lines[:2]])
        try:
            yield running
        finally:
            for pid in (*running.children, process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def seen() -> Iterator[tuple[Tree, Graph]]:
    """One tree and its X-ray, for all tests that change neither."""
    with tree() as running:
        yield running, xray_read.take_xray(running.process.pid)


def held_as(graph: Graph, pid: int, number: int) -> tuple[KernelObject, Hold]:
    """The object behind descriptor `number` of `pid`."""
    [hold] = [hold for hold in graph.holds if (hold.pid, hold.number) == (pid, number)]
    return next(thing for thing in graph.objects if thing.id == hold.object_id), hold


def pids(processes: Iterable[ProcessNode]) -> set[int]:
    return {process.pid for process in processes}


def ss_holders(port: int) -> set[tuple[int, int]]:
    """(pid, descriptor) of every holder of the sockets that listen on `port`, as `ss` names them."""
    if shutil.which("ss") is None:
        pytest.skip("no ss here")
    said = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return {(int(pid), int(number)) for pid, number in re.findall(r"pid=(\d+),fd=(\d+)", said)}


def agrees_with_ss(graph: Graph, port: int) -> bool:
    holds = {
        (hold.pid, hold.number)
        for thing in graph.listening_sockets
        if thing.port == port
        for hold in graph.holds_on(thing)
    }
    assert holds, f"nobody in the X-ray listens on {port}"
    return holds == ss_holders(port)


# ---- who holds what --------------------------------------------------------------------------------------------------


def test_the_listening_socket_has_the_holders_that_ss_names(seen):
    running, graph = seen
    port = running.numbers["port"]
    assert pids(graph.who_holds(port=port)) == {running.process.pid, *running.children}
    assert graph.who_holds(inode=running.numbers["inode"]) == graph.who_holds(port=port)
    assert agrees_with_ss(graph, port)


def test_the_listening_socket_says_its_queue_and_who_waits_with_epoll(seen):
    running, graph = seen
    [listening] = graph.listening_sockets
    assert (listening.address, listening.limit) == (f"127.0.0.1:{running.numbers['port']}", 9)
    holds = {hold.pid: hold for hold in graph.holds_on(listening)}
    first, second = (holds[pid] for pid in running.children)
    assert holds[running.process.pid].epoll_sets == ()
    assert (first.epoll_sets, first.exclusive) == ((running.polls[0],), ())
    assert (second.epoll_sets, second.exclusive) == ((running.polls[1],), (running.polls[1],))


def test_a_pipe_has_ends_that_read_and_ends_that_write(seen):
    running, graph = seen
    pipe, hold = held_as(graph, running.process.pid, running.numbers["write"])
    assert (pipe.kind, hold.access) == ("pipe", "write")
    reads = {(one.pid, one.number) for one in graph.holds_on(pipe) if one.access == "read"}
    first, second = running.children
    assert reads == {(first, running.numbers["read"]), (second, running.numbers["read"]), (second, 60)}


def test_whether_a_descriptor_would_survive_an_exec_is_known(seen):
    running, graph = seen
    second = running.children[1]
    assert held_as(graph, second, 60)[1].inheritable  # as dup2 leaves it
    assert not held_as(graph, second, running.numbers["read"])[1].inheritable


def test_memory_that_is_mapped_and_its_descriptor_are_one_object(seen):
    running, graph = seen
    memory, _ = held_as(graph, running.process.pid, running.numbers["memory"])
    assert (memory.kind, memory.address, memory.size) == ("shared memory", "pages", 8192)
    assert pids(graph.holders(memory)) == {running.process.pid, *running.children}
    assert {hold.access for hold in graph.holds_on(memory)} == {"read and write", "mapped"}
    assert graph.who_holds(address="pages") == graph.holders(memory)


def test_an_inherited_epoll_set_is_one_object_and_own_ones_are_others(seen):
    running, graph = seen
    inherited, _ = held_as(graph, running.process.pid, running.numbers["shared_poll"])
    assert pids(graph.holders(inherited)) == {running.process.pid, *running.children}
    own = [held_as(graph, pid, number)[0] for pid, number in zip(running.children, running.polls, strict=True)]
    assert own[0].id != own[1].id and [len(graph.holders(one)) for one in own] == [1, 1]


def test_what_an_epoll_set_watches_is_known_of_pipes_too():
    read, write = os.pipe()
    with select.epoll() as poll:
        poll.register(read, select.EPOLLIN)
        _, hold = held_as(xray_read.take_xray(os.getpid(), outside=False), os.getpid(), read)
        assert hold.epoll_sets == (poll.fileno(),)
    os.close(read)
    os.close(write)


def test_an_eventfd_is_one_object_for_those_who_kept_it(seen):
    running, graph = seen
    eventfd, _ = held_as(graph, running.process.pid, running.numbers["eventfd"])
    assert pids(graph.holders(eventfd)) == {running.process.pid, running.children[0]}


def test_the_two_ends_of_a_socket_pair_are_one_connection(seen):
    running, graph = seen
    pair, hold = held_as(graph, running.process.pid, running.numbers["mine"])
    first, second = running.children
    assert pair.kind == "Unix connection" and len(pair.inodes) == 2
    assert pids(graph.holders(pair)) == {running.process.pid, first}
    [other] = [one for one in graph.holds_on(pair) if one.pid == first]
    assert other.inode != hold.inode
    assert pair in graph.between(running.process.pid, first) and pair not in graph.between(running.process.pid, second)


def test_a_socket_that_is_neither_bound_nor_connected_is_known_for_what_it_is(seen):
    running, graph = seen
    unbound, _ = held_as(graph, running.process.pid, running.numbers["unbound"])
    assert (unbound.kind, unbound.address) == ("socket", "TCP")


def test_a_client_outside_is_drawn_with_its_end_of_the_connection():
    with tree() as running, socket.create_connection(("127.0.0.1", running.numbers["port"])) as client:
        running.order("accept")
        code = "import time; time.sleep(600)"
        with subprocess.Popen([sys.executable, "-c", code], pass_fds=[client.fileno()]) as other:
            graph = xray_read.take_xray(running.process.pid)
            other.kill()
        [connection] = graph.of_kind("TCP connection")
        outside = [process for process in graph.processes if process.outside]
        assert other.pid in pids(outside) and os.getpid() not in pids(outside)  # we are not in the picture
        assert {hold.bound for hold in graph.holds_on(connection) if hold.pid == running.process.pid} == {True}
        assert {hold.bound for hold in graph.holds_on(connection) if hold.pid == other.pid} == {False}
        assert pids(graph.who_holds(port=running.numbers["port"])) == {running.process.pid, *running.children}
        alone = xray_read.take_xray(running.process.pid, outside=False)
        assert not any(process.outside for process in alone.processes)


def test_outside_the_other_end_of_a_pipe_is_drawn_and_a_copy_of_the_same_end_is_not():
    read, write = os.pipe()
    with contextlib.ExitStack() as stack:
        sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
        root, copy, reader = (
            stack.enter_context(subprocess.Popen(sleeps, pass_fds=[number])) for number in (write, write, read)
        )
        graph = xray_read.take_xray(root.pid)
        for process in (root, copy, reader):
            process.kill()
    os.close(read)
    os.close(write)
    outside = pids(graph.processes) - pids(graph.inside)
    assert reader.pid in outside and copy.pid not in outside


def test_questions_about_what_is_not_there_name_what_is(seen):
    running, graph = seen
    assert graph.who_holds(port=1) == ()
    with pytest.raises(xray_graph.UnknownProcess, match=str(running.process.pid)):
        graph.process("nobody")
    with pytest.raises(xray_read.NoSuchProcess, match="got pid 4194305"):
        xray_read.take_xray(2**22 + 1)


@needs_root
def test_an_ordinary_user_sees_their_own_tree_in_full():
    def look() -> tuple[int, int, Graph]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            child = os.fork()
            if child == 0:
                signal.pause()
            graph = xray_read.take_xray(os.getpid())
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return child, server.getsockname()[1], graph

    child, port, graph = as_nobody(look)
    assert pids(graph.who_holds(port=port)) >= {child} and len(graph.inside) == 2
    assert graph.notes == ()


@needs_x86_64
def test_in_a_sandbox_listeners_and_pipes_are_still_one_object_and_the_rest_is_said(seen):
    running, full = seen
    number = running.process.pid
    for graph in (
        in_a_sandbox(lambda: xray_read.take_xray(number)),
        xray_read.take_xray(number, without=("sock_diag", "kcmp")),
    ):
        assert pids(graph.who_holds(port=running.numbers["port"])) == pids(full.inside)
        pipe, _ = held_as(graph, number, running.numbers["write"])
        assert len(graph.holders(pipe)) == 3
        end, _ = held_as(graph, number, running.numbers["mine"])
        assert end.kind == "Unix connection" and len(graph.holders(end)) == 1
        polls, _ = held_as(graph, number, running.numbers["shared_poll"])
        assert len(graph.holders(polls)) == 1
        words = xray_text.text(graph)
        assert "other ends of Unix sockets are unknown" in words and "even if they are shared: kcmp" in words


@needs_root
def test_another_users_processes_are_boxes_without_content_and_a_note_says_why(seen):
    running, _ = seen
    graph = as_nobody(lambda: xray_read.take_xray(running.process.pid))
    assert pids(graph.inside) == {running.process.pid, *running.children}
    assert all(process.descriptors is None for process in graph.inside)
    assert "another user's" in " ".join(graph.notes)
    assert "not readable" in xray_text.text(graph) and "not readable" in xray_svg.svg(graph)


# ---- two X-rays ------------------------------------------------------------------------------------------------------


def test_a_killed_child_is_gone_and_holds_no_more():
    with tree() as running:
        before = xray_read.take_xray(running.process.pid)
        killed = running.children[1]
        os.kill(killed, signal.SIGKILL)
        while not proc.read_process(killed).ended:
            time.sleep(0.001)
        after = xray_read.take_xray(running.process.pid)
        change = xray_graph.compare(before, after)
        assert pids(change.processes_gone) == {killed} and change.processes_new == ()
        assert {hold.pid for hold in change.holds_gone} == {killed} and change.holds_new == ()
        [listening] = before.listening_sockets
        assert listening.id in {hold.object_id for hold in change.holds_gone}
        words = xray_text.difference_text(before, after)
        assert f"({killed})" in words and "no longer held" in words and "listening socket" in words
        assert "★" not in xray_svg.svg(after, after)


def test_a_leak_is_counted():
    with tree() as running:
        before = xray_read.take_xray(running.process.pid)
        running.order("leak")
        after = xray_read.take_xray(running.process.pid)
        change = xray_graph.compare(before, after)
        assert [thing.kind for thing in change.objects_new] == ["socket"] * 5
        count = before.processes[0].descriptors
        assert f"{count} before, {count + 5} after" in xray_text.difference_text(before, after)


def test_nothing_happened_is_one_sentence(seen):
    running, graph = seen
    again = xray_read.take_xray(running.process.pid)
    assert not xray_graph.compare(graph, again)
    assert xray_text.difference_text(graph, again) == "Nothing has changed.\n"


def test_a_graph_goes_to_json_and_back(seen):
    _, graph = seen
    assert xray_graph.from_json(graph.to_json()) == graph
    for text in ("", "[]", '{"root": 1}', '{"root":1,"processes":[{}],"objects":[],"holds":[],"notes":[]}'):
        with pytest.raises(ValueError, match="lab xray PID --json"):
            xray_graph.from_json(text)


# ---- rows, text, picture ---------------------------------------------------------------------------------------------


def a_server(children: int) -> Graph:
    """A graph as it could be: a parent, `children` children with a pipe, a pair and two connections each."""
    processes = [ProcessNode(1, 1, 0, "launcher", "launcher", "S", 1, 9)]
    processes += [ProcessNode(10 + n, 2, 1, f"a rather long name-{n}", "x", "S", 2, 9) for n in range(children)]
    objects = [KernelObject("socket:1", "listening socket", "127.0.0.1:80", (1,), 80, limit=5)]
    holds = [Hold(process.pid, "socket:1", 3, "read and write") for process in processes]
    for n in range(children):
        objects += [KernelObject(f"pipe:{n}", "pipe", ""), KernelObject(f"unix:{n}", "Unix connection", "")]
        holds += [Hold(1, f"pipe:{n}", 100 + n, "write"), Hold(10 + n, f"pipe:{n}", 4, "read")]
        holds += [Hold(number, f"unix:{n}", 50 + n, "read and write") for number in (1, 10 + n)]
        objects.append(KernelObject(f"unix:to{n}", "Unix connection", "/run/door"))
        holds += [Hold(1, f"unix:to{n}", 200 + n, "read and write", bound=True)]
        holds += [Hold(10 + n, f"unix:to{n}", 7, "read and write")]
        objects.append(KernelObject(f"eventfd:{n}", "eventfd", ""))
        holds.append(Hold(10 + n, f"eventfd:{n}", 8, "read and write"))
    return Graph(1, tuple(processes), tuple(objects), tuple(holds))


def test_what_is_alike_shares_a_row_and_what_is_held_alone_is_counted():
    arranged = xray_rows.arrange(a_server(11))
    assert [row.title for row in arranged.rows] == [
        "listening socket",
        "11 Unix connections",
        "11 Unix connections",
        "11 pipes",
    ]
    assert {row.detail for row in arranged.rows} >= {"launcher writes, the others read", "to door"}
    assert all(len(row.terminals) == 12 for row in arranged.rows)
    assert "11 eventfds" in arranged.left_out[0]


def test_a_row_of_many_names_its_holders_by_number():
    words = xray_text.text(a_server(4))
    assert "127.0.0.1:80, 0 of 5 waiting" in words
    assert "launcher: write 100 101 102 103" in words
    assert re.search(r"a rather long name-0, .* name-3: read 4", words)


@pytest.mark.parametrize("children", [0, 1, 11, 30])
def test_nothing_in_the_picture_overlaps_or_leaves_it(children):
    root = ElementTree.fromstring(xray_svg.svg(a_server(children)))
    width, height = float(root.get("width")), float(root.get("height"))
    shapes = [
        {name: float(one.get(name, 0)) for name in ("x", "y", "width", "height", "rx")}
        for one in root.iter(f"{SVG}rect")
    ]
    round_ones = [one for one in shapes if one["rx"] >= 7]  # boxes and pills
    assert len(round_ones) >= 1 + children
    for index, one in enumerate(round_ones):
        assert one["x"] >= 0 and one["x"] + one["width"] <= width and one["y"] + one["height"] <= height
        for other in round_ones[index + 1 :]:
            apart = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            below = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert apart or below, (one, other)


def test_words_below_a_mark_stay_in_their_row():
    """As of nginx: many listening sockets, each in several epoll sets, `exclusive` on a line of its own."""
    graph = a_server(3)
    sets = {"epoll_sets": (12, 13, 14), "exclusive": (12,)}
    holds = [replace(hold, **sets) if hold.object_id == "socket:1" else hold for hold in graph.holds]
    more = [replace(hold, object_id=f"socket:{n}") for n in (2, 3) for hold in holds if hold.object_id == "socket:1"]
    ports = [KernelObject(f"socket:{n}", "listening socket", f"127.0.0.1:{n}", (n,), n, limit=5) for n in (2, 3)]
    root = ElementTree.fromstring(xray_svg.svg(replace(graph, objects=(*graph.objects, *ports), holds=(*holds, *more))))
    captions = [one for one in root.iter(f"{SVG}text") if one.text in ("epoll 12 13 14", "exclusive")]
    marks = [float(one.get("y")) for one in root.iter(f"{SVG}rect") if one.get("height") == "26"]  # one begins each row
    assert len(captions) == 3 * 4 * 2
    for caption in captions:
        end = float(caption.get("y")) + 3
        own = max(mark for mark in marks if mark < float(caption.get("y")) - 20)
        assert [mark for mark in marks if own < mark < end] == [], (caption.text, caption.get("y"))


def two_ports(children: int, name: str = "launcher") -> Graph:
    """`a_server`, of which the launcher listens on a second port, so that there is more to be said in the title."""
    graph = a_server(children)
    root = replace(graph.processes[0], name=name)
    other = KernelObject("socket:2", "listening socket", "127.0.0.1:40999", (2,), 40999, limit=5)
    return replace(
        graph,
        processes=(root, *graph.processes[1:]),
        objects=(*graph.objects, other),
        holds=(*graph.holds, Hold(1, "socket:2", 6, "read and write")),
        notes=("a remark that goes on and on, " * 12,),
    )


@pytest.mark.parametrize("name", ["launcher", "a launcher of a name that is long", "longer " * 20 + "name"])
@pytest.mark.parametrize("children", [2, 30])
def test_no_line_of_words_is_cut_off_where_a_page_is_as_narrow_as_the_narrowest_picture(children, name):
    graph = two_ports(children, name)
    root = ElementTree.fromstring(xray_svg.svg(graph))
    narrowest = float(ElementTree.fromstring(xray_svg.svg(a_server(0))).get("width"))
    assert narrowest <= JUPYTERLAB_SHOWS
    lines = [(one, end_of(one)) for one in root.iter(f"{SVG}text") if one.get("text-anchor") is None and one.text]
    assert [(one.text, end) for one, end in lines if end > narrowest] == []
    titles = [one for one, _ in lines if one.get("font-size") == "15"]
    assert " ".join(one.text for one in titles) == " ".join(xray_text.finding(graph).split())
    below = min(float(one.get("y")) for one in root.iter(f"{SVG}rect") if one.get("y"))
    assert max(float(one.get("y")) for one in titles) < below, "the boxes begin below the last line of the title"


def end_of(text: ElementTree.Element) -> float:
    """The end of a line of words in the picture's first font, by the font's own metrics. In pixels."""
    font = FontProperties(family="DejaVu Sans", weight=text.get("font-weight") or "normal")
    words = TextPath((0, 0), text.text, size=float(text.get("font-size")), prop=font)
    return float(text.get("x")) + words.get_extents().x1


def test_the_picture_says_in_words_what_it_shows(seen):
    running, graph = seen
    root = ElementTree.fromstring(xray_svg.svg(graph))
    assert root.get("role") == "img"
    assert f"127.0.0.1:{running.numbers['port']} is held by 3 processes" in root.find(f"{SVG}title").text
    words = root.find(f"{SVG}desc").text
    assert "listening socket" in words and "shared memory" in words and "pages" in words
    ids = {one.get("id") for one in root.iter()}
    assert set(root.get("aria-labelledby").split()) <= ids


def test_the_picture_marks_what_is_new():
    before = a_server(2)
    after = replace(a_server(3), notes=())
    picture = xray_svg.svg(after, before)
    assert "★ a rather" in picture and "is new" in picture


def test_the_picture_marks_a_hold_that_is_new_though_its_object_is_not():
    after = a_server(2)
    (door,) = after.listening_sockets
    later = next(hold for hold in after.holds if hold.object_id == door.id and hold.pid != after.root)
    before = replace(after, holds=tuple(hold for hold in after.holds if hold != later))
    assert [hold.pid for hold in xray_graph.compare(before, after).holds_new] == [later.pid]
    assert ">★<" in xray_svg.svg(after, before)
    assert ">★<" not in xray_svg.svg(after, after)


def test_names_that_need_escaping_do_not_break_the_picture():
    graph = a_server(1)
    odd = replace(graph.processes[0], name="<a>&\"b'", title="]]><!--")
    picture = xray_svg.svg(replace(graph, processes=(odd, *graph.processes[1:])))
    assert "<a>&\"b'" in "".join(ElementTree.fromstring(picture).itertext())


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("lab:api-0", "lab:api-0"),
        ("postgres: checkpointer", "postgres: checkpointer"),
        ("VLLM::EngineCore_DP0", "VLLM::EngineCore_DP0"),
        ("lab:api-0 frontend --listen-fd 8", "lab:api-0 (comm)"),
        ("/usr/lib/postgresql/15/bin/postgres -D data", "postgres"),
        ("/usr/bin/python3 /opt/bin/gunicorn -w 4 app:app", "gunicorn"),
        ("python3.11 -B -X dev -m lab_support serve", "lab_support serve"),
        ("python -c from multiprocessing.resource_tracker import main;main(5)", "resource tracker"),
        ("python -c from multiprocessing.spawn import spawn_main; spawn_main(1)", "spawned python"),
        ("python", "python"),
        ("-bash", "bash"),
        ("[kworker/0:1]", "[kworker/0:1]"),
    ],
)
def test_a_process_is_called_by_what_it_is(title, name):
    process = proc.Process(proc.Identity(1, 1), 0, "comm", title, "S", 1, 0.0)
    assert process_name.short_name(process) == name


# ---- the command -----------------------------------------------------------------------------------------------------


def lab_xray(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lab_support", "xray", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command_shows_draws_and_compares(tmp_path):
    with tree() as running:
        shown = lab_xray(running.process.pid, "--svg", tmp_path / "tree.svg")
        assert shown.returncode == 0 and "is held by 3 processes" in shown.stdout, shown.stderr
        ElementTree.parse(tmp_path / "tree.svg")
        (tmp_path / "before.json").write_text(lab_xray(running.process.pid, "--json").stdout)
        running.order("leak")
        compared = lab_xray(running.process.pid, "--compare", tmp_path / "before.json")
        assert "5 sockets" in compared.stdout


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    for words in (
        [2**22 + 1],
        [os.getpid(), "--compare", tmp_path / "other.json"],
        [1, "--svg", tmp_path / "no/x.svg"],
    ):
        said = lab_xray(*words)
        assert said.returncode == 1 and said.stderr.startswith("lab xray: ") and said.stderr.count("\n") == 1


# ---- servers ---------------------------------------------------------------------------------------------------------


def test_our_own_server(server: RunningServer):
    graph = xray_read.take_xray(server.process.pid)
    port = int(server.url.rpartition(":")[2])
    assert agrees_with_ss(graph, port)
    assert {process.name for process in graph.who_holds(port=port)} == {"lab:launcher", "lab:api-0", "lab:api-1"}
    assert not any(thing.listening and thing.port for thing in graph.held_by("lab:engine-0"))
    assert graph.between("lab:api-0", "lab:engine-0") and graph.notes == ()
    assert {"lab:api-0", "lab:api-1"} <= {process.name for process in graph.who_holds(address="lab-counters")}
    [lifeline] = [thing for thing in graph.of_kind("pipe") if len(graph.holders(thing)) == 5 - 1]
    writers = {hold.pid for hold in graph.holds_on(lifeline) if hold.access == "write"}
    assert writers == {server.process.pid}


def test_gunicorn(tmp_path):
    (tmp_path / "app.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return []\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--workers", "4", "--bind", f"127.0.0.1:{port}", "app:app"]
    with running(command, tmp_path) as master:
        graph = xray_of(master.pid, port, processes=5)
        assert len(graph.who_holds(port=port)) == 5 and agrees_with_ss(graph, port)


@pytest.mark.slow
@needs_root
def test_postgresql():
    with postgresql() as (postmaster, port):
        graph = xray_of(postmaster.pid, port, processes=6)
        assert [process.name for process in graph.who_holds(port=port)] == ["postgres"]
        assert agrees_with_ss(graph, port)
        assert "checkpointer" in {process.name for process in graph.inside}
        biggest = max(graph.of_kind("shared memory"), key=lambda thing: thing.size)
        assert biggest.size > 1 << 20 and len(graph.holders(biggest)) >= 6


@contextlib.contextmanager
def running(command: list[str], directory: Path, **options) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def xray_of(pid: int, port: int, processes: int) -> Graph:
    """The X-ray once that many processes are there and one listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        graph = xray_read.take_xray(pid)
        if len(graph.inside) >= processes and graph.who_holds(port=port):
            return graph
        time.sleep(0.001)
    raise AssertionError(f"never saw {processes} processes with port {port}: {xray_text.text(graph)}")


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (3, "child process", "3 child processes"),
        (1, "child process", "1 child process"),
        (2, "inbox", "2 inboxes"),
        (0, "batch", "0 batches"),
        (2, "copy", "2 copies"),
        (2, "key", "2 keys"),
        (2, "socket", "2 sockets"),
    ],
)
def test_a_number_of_things_is_said_as_one_says_it(number, noun, words):
    assert counted(number, noun) == words
