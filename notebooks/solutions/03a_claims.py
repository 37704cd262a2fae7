"""Appendix 03a: other roads of a descriptor. The programs of its cells, and what breaks their claims."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

IN_FLIGHT, PASS_FDS, ACTIVATION, PULLED, ADOPTED = (
    cell("03a", name) for name in ("in_flight", "pass_fds", "activation", "pulled", "adopted")
)
LEAK, CLOSED, TICKET, JOURNEY = (cell("03a", name) for name in ("leak", "closed", "ticket", "journey"))


def _arrives_there(result: ProcessResult, passed: int) -> bool:
    (told,) = (event.fields for event in result.events if event.fields["passed"] == passed)
    return bool(told["here"] == told["there"])


_NO_SOCKET_PICKLED = changed(
    TICKET,
    "ForkingPickler.dumps(sock)\n",
    "pickle.dumps(sock.family)\n",
    "pickle.loads(pickled).close()\ntry:\n",
    "raise SystemExit\ntry:\n",
)
_TWO_TICKETS = changed(
    TICKET,
    "    pickle.loads(pickled).close()\nexcept",
    "    with socket.socket() as other:\n        pickle.loads(ForkingPickler.dumps(other)).close()\nexcept",
)
_NOT_SENT = changed(
    IN_FLIGHT,
    'socket.send_fds(ours, [b"!"], [writes])\n',
    "",
    "_, [arrived], _, _ = socket.recv_fds(theirs, 1, 1)\n",
    "raise SystemExit\n",
)
_A_SOCKET_OF_ITS_OWN = changed(
    ACTIVATION,
    "            os.dup2(sock.fileno(), 3)\n",
    '            os.dup2(socket.create_server(("127.0.0.1", 0)).fileno(), 3)\n',
    "        if os.fork() == 0:\n",
    "        client.settimeout(2)\n        if (server := os.fork()) == 0:\n",
    "        emit(answer=client.recv(100).decode())\n    os.wait()\n",
    """\
        try:
            emit(answer=client.recv(100).decode())
        except TimeoutError:
            emit(answer="")
    os.kill(server, 9)
""",
)
_BINDS_ANEW = changed(
    ADOPTED,
    "        pull.setsockopt(zmq.USE_FD, listener.detach())\n",
    "        listener.close()\n",
    '"ipc://{folder}/door")\n            )',
    '"ipc://{folder}/other")\n            )',
    "pull.poll(5000)",
    "pull.poll(1000)",
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "A descriptor in flight keeps its object alive, though no process holds it",
        IN_FLIGHT,
        _NOT_SENT,
        lambda result: result.told["at_its_end"] is False,
    ),
    BrokenClaim(
        "The socket at which it waits counts it", IN_FLIGHT, _NOT_SENT, lambda result: result.told["counted"] == 1
    ),
    BrokenClaim(
        "With pass_fds the next program has the socket, under the same number",
        PASS_FDS,
        changed(PASS_FDS, "pass_fds=passed", "pass_fds=[]"),
        lambda result: _arrives_there(result, 1),
    ),
    BrokenClaim(
        "Without pass_fds it has not",
        PASS_FDS,
        changed(PASS_FDS, "pass_fds=passed", "pass_fds=[sock.fileno()]"),
        lambda result: not _arrives_there(result, 0),
    ),
    BrokenClaim(
        "A client that came before the server is served by it, from descriptor 3",
        ACTIVATION,
        _A_SOCKET_OF_ITS_OWN,
        lambda result: result.told["answer"] == "served from descriptor 3",
    ),
    BrokenClaim(
        "pidfd_getfd pulled the child's socket out of its table",
        PULLED,
        changed(
            PULLED,
            "mine = libc.syscall(PIDFD_GETFD, os.pidfd_open(child), number, 0)",
            'mine = socket.create_server(("127.0.0.1", 0)).detach()',
        ),
        lambda result: bool(result.told["why"]) or result.told["here"] == result.told["there"],
    ),
    BrokenClaim(
        "What was sent before ZeroMQ had the socket arrives",
        ADOPTED,
        _BINDS_ANEW,
        lambda result: result.told["received"] == "sent before anybody served",
    ),
    BrokenClaim(
        "A forked bystander keeps the client from seeing the end, until the bystander is gone",
        LEAK,
        changed(LEAK, "get_context(way)", 'get_context("spawn")'),
        lambda result: (
            [result.by("way")["fork"][key] for key in ("ended", "ended_without_the_bystander")] == [False, True]
        ),
    ),
    BrokenClaim(
        "A spawned bystander does not",
        LEAK,
        changed(LEAK, "get_context(way)", 'get_context("fork")'),
        lambda result: result.by("way")["spawn"]["ended"],
    ),
    BrokenClaim(
        "spawn and forkserver refuse a socket that is closed before start(), and fork does not notice",
        CLOSED,
        changed(CLOSED, "        sock.close() ", "        sock.fileno() "),
        lambda result: (
            [way["came"].partition(":")[0] for way in result.by("way").values()]
            == ["a socket with the number -1", "ValueError", "OSError"]
        ),
    ),
    BrokenClaim(
        "Pickling a socket on its own starts a thread",
        TICKET,
        _NO_SOCKET_PICKLED,
        lambda result: result.told["new_threads"] == 1,
    ),
    BrokenClaim(
        "Until the pickle is loaded, the socket that the program has closed is open",
        TICKET,
        _NO_SOCKET_PICKLED,
        lambda result: result.told["open_though_closed"],
    ),
    BrokenClaim(
        "Such a pickle can be loaded once, and no second time",
        TICKET,
        _TWO_TICKETS,
        lambda result: result.told.get("loaded_again") == "EOFError",
    ),
    BrokenClaim(
        "In every Python found here, the counts are the same",
        JOURNEY,
        changed(JOURNEY, "get_context(way)", 'get_context("forkserver")'),
        lambda result: [way["messages"] for way in result.by("way").values()] == [0, 0, 1, 1],
    ),
    nothing_left("No process of this appendix is left", JOURNEY),
)
