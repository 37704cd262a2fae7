"""Names that no terminal should get, of a process, its threads, sockets, memory and files: shown, and never obeyed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab_support.instruments import fdinfo, kernel, proc, sockets
from lab_support.instruments.address_space import stack_top
from lab_support.instruments.foreign_text import visible
from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray import read as xray_read
from lab_support.instruments.xray import svg as xray_svg
from lab_support.instruments.xray import text as xray_text

ODD = b"\xe9\x1b[2J\r\nx) y"
SHOWN = "\\xe9\\x1b[2J\\r\\nx) y"
LINE_FEED = b"0000: 1\n2"

PROGRAM = r"""
import ctypes, json, mmap, os, signal, socket, sys, threading
odd, line_feed, place = (os.fsencode(word) for word in sys.argv[1:4])
libc = ctypes.CDLL(None)

def listen(name):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(name)
    listening.listen()
    return listening

doors = [listen(place + b"/" + odd), listen(place + b"/" + line_feed), listen(b"\0abstract" + odd)]
clients = [socket.socket(socket.AF_UNIX) for _ in doors]
for client, door in zip(clients, doors):
    client.connect(door.getsockname())
memory = os.memfd_create(os.fsdecode(b"memory" + odd))
os.ftruncate(memory, 4096)
pages = mmap.mmap(memory, 4096)
number = os.open(place + b"/file" + odd, os.O_CREAT | os.O_RDWR)
os.ftruncate(number, 4096)
mapped = mmap.mmap(number, 4096)
if os.fork() == 0:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    signal.pause()
threading.Thread(target=lambda: (libc.prctl(15, odd, 0, 0, 0), threading.Event().wait()), daemon=True).start()
libc.prctl(15, odd, 0, 0, 0)  # PR_SET_NAME
print(json.dumps([os.fstat(door.fileno()).st_ino for door in doors] + [memory, number]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Iterator[tuple[int, list[int], Path]]:
    """The pid of such a process, the inodes of its three doors with its memory's and file's numbers, and its folder."""
    place = tmp_path_factory.mktemp("odd")
    words = [sys.executable, "-c", PROGRAM, ODD, LINE_FEED, str(place)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process.pid, json.loads(process.stdout.readline()), place
        process.stdin.close()


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n")) and bool(text.encode())


def test_every_process_is_read_beside_it(odd):
    [process] = [process for process in proc.all_processes() if process.pid == odd[0]]
    assert process.name == visible(SHOWN)[: len(process.name)] and process.name.startswith("\\xe9\\x1b[2J\\r\\n")
    assert process.parent_pid == os.getpid()
    assert harmless(process.title) and SHOWN in process.title
    assert set(proc.read_thread_states(odd[0]).values()) == {"S"}
    assert len(proc.read_thread_switches(odd[0])) == 2


def test_what_it_has_mapped_is_read(odd):
    assert proc.maps_library(odd[0], "libc.so")
    assert stack_top(odd[0])
    names = {mapping.path for mapping in fdinfo.shared_mappings(odd[0])}
    assert names >= {f"/memfd:memory{SHOWN} (deleted)", f"{odd[2]}/file{SHOWN}"}


@pytest.mark.parametrize("means", sockets.MEANS)
def test_its_sockets_are_known_by_their_names(odd, means):
    pid, [plain, line_feed, abstract, *_], place = odd
    table = sockets.read_sockets(pid, (means,)).sockets
    found = [table[inode].address for inode in (plain, line_feed, abstract)]
    assert found == [f"{place}/{SHOWN}", f"{place}/0000: 1\\n2", f"@abstract{SHOWN}"]
    assert all(table[inode].state == "listening" for inode in (plain, line_feed, abstract))


def test_sockets_that_listen_are_found_by_whoever_asks(odd):
    pid, [plain, line_feed, abstract, memory, number], place = odd
    listening = proc.listening_sockets()
    assert listening[line_feed].address == f"{place}/0000: 1\\n2"
    assert {plain, line_feed, abstract} <= set(listening)
    table = {descriptor.number: descriptor for descriptor in proc.read_descriptors(pid)}
    assert (table[memory].kind, table[memory].about) == ("memfd", f"memory{SHOWN}")
    assert table[number].about == f"{place}/file{SHOWN}"
    assert kernel.accept_queues(1).queues == ()


def test_an_x_ray_of_it_can_be_printed_drawn_and_kept(odd):
    graph = xray_read.take_xray(odd[0])
    assert len(graph.inside) == 2
    shown = xray_text.text(graph)
    assert harmless(shown) and f"memory{SHOWN}" in shown
    assert len(ElementTree.fromstring(xray_svg.svg(graph).encode()))
    assert xray_graph.from_json(graph.to_json()) == graph


def test_mapped_memory_and_its_descriptor_are_one_object(odd):
    graph = xray_read.take_xray(odd[0])
    [memory] = [thing for thing in graph.objects if thing.address == f"memory{SHOWN}"]
    assert {hold.number is None for hold in graph.holds_on(memory) if hold.pid == odd[0]} == {True, False}


def test_another_process_is_x_rayed_beside_it(odd):
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        assert xray_read.take_xray(other.pid).process(other.pid).name == "cat"
    finally:
        other.communicate()


def test_the_command_gives_a_terminal_no_escape_code(odd):
    done = subprocess.run([sys.executable, "-m", "lab_support", "xray", str(odd[0])], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout and b"\\x1b[2J" in done.stdout


def test_text_that_is_harmless_stays_as_it_is():
    for text in ("café ☕ 日本", "a\\b", ""):
        assert visible(text) == text
    assert visible("\x9b\u202e\udce9") == "\\x9b\\u202e\\udce9"
