"""A launcher and an API server that are told to stop, and three clients: who is served, and who is refused.

The cell's own process is the launcher; the API server is a forked child. Standard library only.

Taught in: 09a_what_if_one_end_leaves
"""

import os
import socket
from collections.abc import Callable
from contextlib import closing, suppress

from lab_support.notebook.stages.fleet import fleet

STREAM, QUEUED, LATE = "reads a stream", "waits in the accept queue", "connects afterwards"
SERVED, LOST, REFUSED, NEVER = "served", "lost", "refused at once", "connected, then reset"
_PATIENCE = 10.0  # seconds
_ANSWER = b"an answer"

OnStop = Callable[[socket.socket], object]
OnStopWithClients = Callable[[socket.socket, Callable[[socket.socket], None]], object]


def stop(launcher: OnStop, api_server: OnStopWithClients) -> dict[str, str]:
    """Stop a server by these two functions, the launcher's first; for `emit`: what each client got."""
    told, tell = os.pipe()
    with fleet() as processes, socket.create_server(("127.0.0.1", 0)) as listening_socket:
        address = listening_socket.getsockname()
        stream = socket.create_connection(address, timeout=_PATIENCE)
        child = processes.start(_serve, listening_socket, api_server, told)
        with closing(stream):
            stream.recv(1)  # it is being served
            with socket.create_connection(address, timeout=_PATIENCE) as queued:
                launcher(listening_socket)
                os.write(tell, b"stop")
                ends = {QUEUED: _end(queued)}
            stream.recv(1)  # the API server has come back from its function
            late = _connect(address)
            os.write(tell, b"end")
            ends[STREAM] = _end(stream)
        child.result()
        listening_socket.close()
    ends[LATE] = _last(late)
    os.close(tell)
    os.close(told)
    return {name: ends[name] for name in (STREAM, QUEUED, LATE)}


def _connect(address: tuple[str, int]) -> socket.socket | None:
    with suppress(ConnectionRefusedError):
        return socket.create_connection(address, timeout=_PATIENCE)
    return None


def _last(late: socket.socket | None) -> str:
    if late is None:
        return REFUSED
    with closing(late):
        return SERVED if _end(late) == SERVED else NEVER


def _end(connection: socket.socket) -> str:
    got = b""
    with suppress(OSError):
        while more := connection.recv(4096):
            got += more
    return SERVED if got.endswith(_ANSWER) else LOST


def _serve(listening_socket: socket.socket, on_stop: OnStopWithClients, told: int) -> str:
    """Runs in the API server; it accepts nobody but the stream until it is told to stop."""
    said = ""
    stream, _ = listening_socket.accept()
    with closing(stream):
        stream.sendall(b".")
        os.read(told, 4)
        try:
            on_stop(listening_socket, _answer)
        except Exception as error:  # the reader's function: its stream is served all the same
            said = f"{type(error).__name__}: {error}"
        stream.sendall(b".")
        os.read(told, 3)
        stream.sendall(_ANSWER)
    return said


def _answer(connection: socket.socket) -> None:
    with closing(connection):
        connection.sendall(_ANSWER)
