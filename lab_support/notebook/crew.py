"""`crew`: workers on one port that a cell stops, continues and kills, and clients that wait meanwhile.

For a cell's own processes, like `script.listeners`; `crew_of` does the same with a real server's API servers. Standard
library only.

Taught in: 04_who_gets_the_next_connection
"""

import os
import random
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lab_support.instruments import proc
from lab_support.instruments.kernel import accept_queues, wait_until_asleep
from lab_support.notebook.cells.readers_lines import show_readers_lines
from lab_support.notebook.stages.clients import Clients

PING = b"GET /ping HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n"
Serve = Callable[[socket.socket], object]


def one_by_one(listening_socket: socket.socket) -> None:
    """Wait with epoll, take one connection for each wake-up, answer with this process's pid. It does not return."""
    listening_socket.setblocking(False)
    poll = select.epoll()
    poll.register(listening_socket, select.EPOLLIN)
    while True:
        poll.poll()
        try:
            connection, _ = listening_socket.accept()
        except BlockingIOError:
            continue  # another worker was faster
        with connection:
            connection.sendall(b"%d" % os.getpid())


@contextmanager
def crew(
    count: int,
    serve: Serve | Sequence[Serve] = one_by_one,
    *,
    reuseport: bool = False,
    port: int = 0,
    backlog: int = 512,
) -> Iterator["Crew"]:
    """Fork `count` workers that run `serve(listening_socket)`, which must not return; at the end all are killed.

    serve: one function for all, or a sequence with one for each. They have one listening socket, or with `reuseport`
    each its own on the same port. They are started one after the other, each when the one before it sleeps.
    Raises `OSError` if the port is taken, `RuntimeError` if a worker does not start to wait.
    """
    with socket.socket() as entrance:
        if reuseport:
            entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        entrance.bind(("127.0.0.1", port))
        if not reuseport:  # otherwise it only reserves the port: each worker opens its own socket
            entrance.listen(backlog)
        workers = Crew(entrance.getsockname()[1])
        try:
            for index in range(count):
                workers.start(serve if callable(serve) else serve[index], entrance, backlog if reuseport else 0)
            yield workers
        finally:
            workers.end()


def crew_of(port: int, pids: Mapping[str, int]) -> "Crew":
    """API servers that already run, by role; their clients ask for /ping. They are not ended at the end."""
    return Crew(port, dict(pids), PING, _served_by)


@dataclass
class Crew:
    """Workers by name, in the order in which they began to wait: "worker 1", …, or "api-0", …

    port: of the listening socket, or sockets. pids: by name. hello: the text that each client sends. who: maps an
    answer to the worker that sent it.
    """

    port: int
    pids: dict[str, int] = field(default_factory=dict)
    hello: bytes = b""
    who: Callable[[bytes], str] | None = None
    _inodes: list[int] = field(default_factory=list)
    _clients: list[Clients] = field(default_factory=list)

    def start(self, serve: Serve, entrance: socket.socket, own_backlog: int) -> None:
        """Start one more worker. own_backlog: the backlog of a socket of its own, or 0 to share `entrance`."""
        reads, writes = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(reads)
            _work(serve, entrance, own_backlog, writes)
        os.close(writes)
        self.pids[f"worker {len(self.pids) + 1}"] = pid
        with open(reads, "rb") as told:
            inode = told.read()
        asleep = wait_until_asleep([pid], 5.0)
        process = proc.read_process(pid)
        if not inode or not asleep or process is None or process.ended:
            raise RuntimeError("got a worker that does not wait, expected `serve` to wait for connections")
        self._inodes.append(int(inode))

    def stop(self, *which: int) -> None:
        """Stop workers; the first is 1, and all are stopped by default. They stay in the kernel's wait queues."""
        pids = self._of(which)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        while any(set(proc.read_thread_states(pid).values()) - {"T"} for pid in pids):
            time.sleep(0.001)

    def go_on(self, *which: int) -> None:
        """Continue workers, by default all, in random order."""
        pids = self._of(which)
        for pid in random.sample(pids, len(pids)):
            os.kill(pid, signal.SIGCONT)

    def kill(self, which: int) -> None:
        """Send SIGKILL to one worker. It has ended when this returns."""
        name = list(self.pids)[which - 1]
        pid = self.pids.pop(name)
        process = proc.read_process(pid)
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        while process and proc.is_running(process.identity):
            time.sleep(0.001)

    def connect(self, count: int, *, finished: bool = True) -> Clients:
        """Connect `count` clients. finished: return when all are connected; otherwise the kernel goes on trying."""
        clients = Clients(("127.0.0.1", self.port), count, self.who or self._named(), finished)
        self._clients.append(clients)
        clients.say(self.hello)
        return clients

    def queued(self) -> list[int]:
        """Connections not yet accepted: one figure for a shared socket, else one for each worker."""
        waiting = Counter({queue.inode: queue.waiting for queue in accept_queues(self.port).queues})
        return [waiting[inode] for inode in dict.fromkeys(self._inodes)]

    def await_accepted(self, seconds: float = 5.0) -> None:
        """Wait until no connection waits in a queue. Raises `RuntimeError` if one still does after `seconds`."""
        deadline = time.monotonic() + seconds
        while any(self.queued()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"got {self.queued()} connections that nobody accepts, expected none")
            time.sleep(0.001)

    def end(self) -> None:
        """Close all clients and kill all workers."""
        for clients in self._clients:
            clients.close()
        while self.pids:
            self.kill(1)

    def _named(self) -> Callable[[bytes], str]:
        """Map an answer, the pid of a worker, to the worker's name."""
        names = {b"%d" % pid: name for name, pid in self.pids.items()}
        return lambda answer: names.get(answer, "")

    def _of(self, which: tuple[int, ...]) -> list[int]:
        pids = list(self.pids.values())
        return [pids[index - 1] for index in which] if which else pids


def _served_by(answer: bytes) -> str:
    return answer.lower().partition(b"x-served-by: ")[2].partition(b"\r")[0].decode()


def _work(serve: Serve, entrance: socket.socket, own_backlog: int, told: int) -> Any:
    """In the worker: send the socket's inode to the parent, and serve."""
    try:
        if own_backlog:
            port = entrance.getsockname()[1]
            entrance.close()
            entrance = socket.socket()
            entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            entrance.bind(("127.0.0.1", port))
            entrance.listen(own_backlog)
        with open(told, "wb") as pipe:
            pipe.write(b"%d" % os.fstat(entrance.fileno()).st_ino)
        serve(entrance)
    except BaseException as error:
        show_readers_lines(type(error), error, error.__traceback__)
    finally:
        os._exit(1)
