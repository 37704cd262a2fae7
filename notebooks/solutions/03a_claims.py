"""Appendix 03a: other roads of a descriptor. The programs of its cells, and what breaks their claims."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

IN_FLIGHT, PASS_FDS, ACTIVATION, PULLED, ADOPTED = (
    cell("03a", name) for name in ("in_flight", "pass_fds", "activation", "pulled", "adopted")
)
CLOSED, TICKET, JOURNEY, FULL, LEFT_OPEN = (
    cell("03a", name) for name in ("closed", "ticket", "journey", "full", "left_open")
)
LEAK, ON_ARRIVAL = (blank(f"03a.{name}").reference for name in ("b1", "b2"))


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
        "By subprocess, pass_fds=, the socket is left open",
        PASS_FDS,
        changed(PASS_FDS, "pass_fds=passed", "pass_fds=[]"),
        lambda result: _arrives_there(result, 1) and not _arrives_there(result, 0),
    ),
    BrokenClaim(
        "By systemd's socket activation, the socket is left open",
        ACTIVATION,
        _A_SOCKET_OF_ITS_OWN,
        lambda result: result.told["answer"].endswith("from descriptor 3"),
    ),
    BrokenClaim(
        "By ZMQ_USE_FD in a spawned child, the socket is left open",
        ADOPTED,
        _BINDS_ANEW,
        lambda result: bool(result.told["received"]),
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
        "A forked bystander keeps the client from seeing the end until it is gone, and a spawned one doesn't",
        LEAK,
        changed(LEAK, "get_context(way)", 'get_context("spawn")'),
        lambda result: (
            [result.by("way")["fork"][key] for key in ("ended", "without_it")] == [False, True]
            and result.by("way")["spawn"]["ended"]
        ),
    ),
    BrokenClaim(
        "A forked bystander that lets go of the connection doesn't either",
        LEAK,
        changed(LEAK, "    if connection:\n", "    if False:\n"),
        lambda result: result.by("way")["fork, careful"]["ended"],
    ),
    BrokenClaim(
        "With no reader, a sender must wait after some hundred messages",
        FULL,
        changed(FULL, "        sent += 1\n", "        sent += 1\n        socket.recv_fds(theirs, 1, 0)\n"),
        lambda result: "then" in result.told and 30 < result.told["sent"] < 3000,
    ),
    BrokenClaim(
        "A descriptor arrives inheritable, and with MSG_CMSG_CLOEXEC it ends at the exec",
        ON_ARRIVAL,
        changed(ON_ARRIVAL, '("without a flag", 0)', '("without a flag", socket.MSG_CMSG_CLOEXEC)'),
        lambda result: [seen["in_the_next_program"] for seen in result.by("received").values()] == [True, False],
    ),
    BrokenClaim(
        "The socket's number is on spawn's list of descriptors to leave open",
        LEFT_OPEN,
        changed(LEFT_OPEN, '"in the child:", sock)', '"in the child:", sock.fileno())'),
        lambda result: (
            result.told["socket"]
            in [event.fields["left_open"] for event in result.events if "left_open" in event.fields][-1]
        ),
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
        "Pickling a socket on its own starts a thread, and keeps the socket open until the pickle is loaded",
        TICKET,
        _NO_SOCKET_PICKLED,
        lambda result: result.told["new_threads"] == 1 and result.told["open_though_closed"],
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
