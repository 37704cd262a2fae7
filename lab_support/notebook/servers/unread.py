"""A client of a live server that does not read, and the places where its answer waits for it.

It runs in a cell's own process.

Taught in: 09a_what_if_one_end_leaves
"""

import socket
import time
from pathlib import Path
from typing import Any

from lab_support.instruments import proc, sock_diag
from lab_support.notebook.servers.live_server import Server
from lab_support.notebook.servers.look import read_metrics
from lab_support.notebook.servers.plain_client import PlainClient

CLIENT, KERNEL, MEMORY = "the client's socket", "the API server's socket", "the API server's memory"
_PATIENCE = 30.0
_NEIGHBOUR = 50  # tokens
_COMPUTED, _RUNNING = "vllm:generation_tokens_total", "vllm:num_requests_running"


def leave_unread(server: Server, choices: int, tokens: int, *, look_after: int | None = None) -> dict[str, Any]:
    """A client asks for so many answers at once and reads nothing until all are computed; plain data for `emit`.

    bytes: in each place where they wait, once the engine core has no more to do. computed: tokens of it by then.
    neighbour: tokens that a second client has got, and share: the part of the time after which it had them.
    grown: the API server's own memory, that of no file, in bytes. whole: whether the client has found everything when
    it reads at last.
    look_after: look already when so many tokens are computed.
    """
    before, memory = read_metrics(server).get(_COMPUTED, 0.0), _memory(server)
    with PlainClient(server) as silent, PlainClient(server) as neighbour:
        begun = time.monotonic()
        silent.ask(tokens, n=choices)
        _await(server, before, 1)
        neighbour.ask(_NEIGHBOUR)
        neighbour.read_events(_NEIGHBOUR + 1)
        served = time.monotonic() - begun
        computed = _await(server, before, (look_after or choices * tokens) + _NEIGHBOUR) - _NEIGHBOUR
        share = served / (time.monotonic() - begun)  # of time, because /metrics is a little late
        in_kernel = _await_rest(silent, server)
        grown = _memory(server) - memory
        silent.read_to_last_chunk()
    waiting = in_kernel | {MEMORY: len(silent.got) - sum(in_kernel.values())}
    return {
        "bytes": waiting,
        "asked": choices * tokens,
        "computed": computed,
        "share": share,
        "neighbour": neighbour.got.count(b"\ndata: {"),
        "grown": grown,
        "most": _most_in_kernel(),
        "whole": silent.got.count(b"[DONE]") == 1,
    }


def _await(server: Server, before: float, count: int) -> float:
    """Wait for so many new tokens; return how many there are."""
    deadline = time.monotonic() + _PATIENCE
    while (computed := read_metrics(server).get(_COMPUTED, 0.0) - before) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"got {computed:.0f} tokens in {_PATIENCE:g} s, expected {count}")
        time.sleep(0.01)
    return computed


def _await_rest(client: PlainClient, server: Server) -> dict[str, int]:
    """The bytes at both ends of a connection, once they stay the same."""
    before: dict[str, int] = {}
    while (found := _at_both_ends(client, server)) != before:
        before = found
        time.sleep(0.2)
    return found


def _at_both_ends(client: PlainClient, server: Server) -> dict[str, int]:
    """By sock_diag: not read by the client's process; not acknowledged by the client's kernel."""
    found = {CLIENT: 0, KERNEL: 0}
    for each in sock_diag.tcp_sockets(socket.AF_INET):
        if (each.port, each.peer_port) == (client.port, server.port):
            found[CLIENT] = each.read_queue
        elif (each.port, each.peer_port) == (server.port, client.port):
            found[KERNEL] = each.write_queue
    return found


def _most_in_kernel() -> int:
    """The most bytes to which the kernel lets a sending socket grow by itself: tcp(7), tcp_wmem."""
    return int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])


def _memory(server: Server) -> int:
    memory = proc.read_memory(server.pids["api-0"])
    assert memory
    return memory.anonymous
