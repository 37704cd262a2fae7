"""The things that a child of the launcher is given when it is made: plain values, and descriptors.

Descriptors that `multiprocessing` finds among the arguments of a spawned process stay open across exec(2), at the
same number; only these do. So the lists here are complete: an API server or the coordinator inherits nothing else.
They are not in the processes' own files because the launcher, which fills them in, must not import what these
processes import.
"""

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from lab_support.boundary.counters import Counters
from lab_support.boundary.messages import Addresses
from lab_support.boundary.pokes import Pokes
from lab_support.boundary.start_choice import StartChoice

LOADS = "loads"  # the one name that stays, because API servers that start later connect to it


@dataclass(frozen=True)
class AcceptSource:
    """The socket that an API server accepts from. `slot`: which of the counters and pokes are its own."""

    socket: socket.socket
    slot: int
    pokes: Pokes | None  # None if the strategy needs none; under handoff there is only one, the launcher's


@dataclass(frozen=True)
class Run:
    """Values that all API servers of one run of the server share. `id` names the run."""

    id: str
    metrics_directory: str
    counters: Counters
    engine_cores_started_by: StartChoice


@dataclass(frozen=True)
class ApiServerInheritance:
    """For one API server. `inputs` and `outputs` are the listening Unix sockets that engine cores connect to."""

    index: int
    run: Run
    source: AcceptSource
    inputs: socket.socket
    outputs: socket.socket


class ChannelSockets:
    """The listening sockets under all ZeroMQ channels, made by the launcher before anyone connects.

    `path_of` gives the path of a name. A context manager; leaving it closes what is still open here.
    """

    def __init__(self, path_of: Callable[[str], str], api_server_count: int, with_coordinator: bool) -> None:
        self._path_of = path_of
        self._made: Counter[int] = Counter()  # pairs by slot
        with ExitStack() as opened:
            pairs = [self._pair(slot, opened) for slot in range(api_server_count)]
            self.inputs, self.outputs = [list(each) for each in zip(*pairs, strict=True)]
            self.stats = _listen(path_of("stats"), opened) if with_coordinator else None
            self.loads = _listen(path_of(LOADS), opened) if with_coordinator else None
            self._opened = opened.pop_all()
        self.addresses = Addresses(
            [endpoint(listener) for listener in self.inputs],
            [endpoint(listener) for listener in self.outputs],
            endpoint(self.stats) if self.stats else None,
            endpoint(self.loads) if self.loads else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bind_for(self, slot: int) -> tuple[socket.socket, socket.socket]:
        """The sockets for Generate and for Tokens of the API server that will own `slot`.

        At first these are the ones bound in `__init__`; for each later API server, new ones under new names.

        Raises `OSError` if no more can be made: no room on the disk, no descriptor, the folder gone.
        """
        if slot < len(self.inputs) and self.inputs[slot].fileno() >= 0:
            return self.inputs[slot], self.outputs[slot]
        with ExitStack() as opened:
            pair = self._pair(slot, opened)
            opened.pop_all()
        return pair

    def _pair(self, slot: int, opened: ExitStack) -> tuple[socket.socket, socket.socket]:
        """Bind under names never used before: an engine core may still be connecting to a predecessor's."""
        self._made[slot] += 1
        name = f"api-{slot}" if self._made[slot] == 1 else f"api-{slot}.{self._made[slot]}"
        return _listen(self._path_of(f"{name}-in"), opened), _listen(self._path_of(f"{name}-out"), opened)

    def close(self) -> None:
        """Close the launcher's copies; the processes that adopted the sockets go on holding theirs."""
        self._opened.close()


def endpoint(listener: socket.socket) -> str:
    """A Unix socket's address in ZeroMQ's notation."""
    return f"ipc://{listener.getsockname()}"


def _listen(path: str, opened: ExitStack) -> socket.socket:
    """A listening Unix socket. It must listen before it is handed over, because libzmq only accepts, and otherwise
    aborts."""
    listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(path)
    listener.listen(128)
    return listener
