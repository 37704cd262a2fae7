"""Launchers that start at once: each finds an address, and its child binds it later. Counts the starts that are lost.

Nothing waits for time to pass: every launcher of a round has its address before the first child starts, and every
child has bound or failed before the first one is ended. So the addresses alone decide, and not who is faster.

Taught in: 07_how_do_strangers_find_each_other
"""

import errno
import json
import os
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NoReturn

from lab_support.experiments.ports.early_client import ANSWERED, CONNECTED, EarlyClient

BOUND, LOST, STUCK = "bound", "lost", "stuck"
CHILD_SECONDS, CLIENT_SECONDS = 30.0, 10.0  # until a child has bound, and until a client is answered

Launch = Callable[[], Sequence[Any]]
"""Runs in a launcher. Returns the arguments of its child, of which the first says where to bind."""
Child = Callable[..., Any]
"""Runs in a child of a launcher: binds, and returns the socket."""


def race(launchers: int, launch: Launch, child: Child, *, starts: int = 400, clients: bool = False) -> dict[str, Any]:
    """`starts` starts by forked launchers, `launchers` of them at once in each round. Returns numbers for `emit`.

    launch: runs in each launcher. child: runs in a forked child of it, with the arguments that `launch` returned.
    clients: a client connects to each address, in ZeroMQ's notation, before any child is started, and waits for an
    answer of the ZeroMQ socket that `child` returns.

    came: how many starts ended as "bound", as "lost" (EADDRINUSE), or with another error, by its text. addresses: the
    different ones that were found. clients, answers: how many clients met what. The race ends with the first round in
    which a start ends otherwise or a connected client gets no answer, because all further ones would go the same way.
    A child's stderr is not shown; its end and its error are told.
    """
    seen: list[dict[str, str]] = []
    with _launchers(launchers, launch, child) as links:
        while len(seen) < starts and all(map(_as_expected, seen)):
            seen += _round(links[: starts - len(seen)], clients)
    came, met, answers = (dict(Counter(each[key] for each in seen if key in each)) for key in ("came", "met", "answer"))
    return {
        "launchers": launchers,
        "starts": len(seen),
        "lost": came.get(LOST, 0),
        "came": came,
        "addresses": sorted({each["address"] for each in seen}),
        "clients": met,
        "answers": answers,
    }


def _as_expected(start: Mapping[str, str]) -> bool:
    unheard = start.get("met") == CONNECTED and start["answer"] != ANSWERED
    return start["came"] in (BOUND, LOST) and not unheard


# ---- in the process that measures ------------------------------------------------------------------------------------


class _Link:
    """A connection between two processes that carries JSON, one value a line."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._lines: IO[str] = connected.makefile("r", encoding="utf-8")

    def tell(self, value: object) -> None:
        self.socket.sendall(json.dumps(value).encode() + b"\n")

    def hear(self) -> Any:
        """The other side's next value. Raises `EOFError` if it has ended."""
        if not (line := self._lines.readline()):
            raise EOFError("got the end of a launcher, expected its answer")
        return json.loads(line)

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


@contextmanager
def _launchers(count: int, launch: Launch, child: Child) -> Iterator[list[_Link]]:
    links: list[_Link] = []
    pids: list[int] = []
    try:
        for _ in range(count):
            ours, theirs = socket.socketpair()
            if (pid := os.fork()) == 0:
                links.append(_Link(ours))
                for link in links:  # otherwise no launcher would see the end of the process that measures
                    link.close()
                _be_a_launcher(_Link(theirs), launch, child)
            theirs.close()
            links.append(_Link(ours))
            pids.append(pid)
        yield links
    finally:
        for link in links:
            link.close()
        for pid in pids:
            os.waitpid(pid, 0)


def _round(links: Sequence[_Link], with_clients: bool) -> list[dict[str, str]]:
    """One start of each launcher: all find an address, then all children start, then all are ended."""
    starts = [{"address": address} for address in _ask_all(links, "launch")]
    with ExitStack() as opened:
        clients = [opened.enter_context(EarlyClient(each["address"])) for each in starts if with_clients]
        _ask_all(links, "start")
        deadline = time.monotonic() + CLIENT_SECONDS
        for each, client in zip(starts, clients, strict=False):
            each |= {"met": client.met, "answer": client.outcome(deadline)}
    for each, came in zip(starts, _ask_all(links, "end"), strict=True):
        each["came"] = came
    return starts


def _ask_all(links: Sequence[_Link], value: str) -> list[Any]:
    """Their answers. They work at the same time."""
    for link in links:
        link.tell(value)
    return [link.hear() for link in links]


# ---- in a launcher ---------------------------------------------------------------------------------------------------


def _be_a_launcher(link: _Link, launch: Launch, child: Child) -> NoReturn:
    try:
        while link.hear() == "launch":
            _one_start(link, launch, child)
    except (EOFError, ConnectionError):
        os._exit(0)  # the measuring process needs no more starts
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(1)


def _one_start(link: _Link, launch: Launch, child: Child) -> None:
    """From "launch" to "end", with an answer to each word."""
    given, failed = _found(launch)
    link.tell(":".join(str(each) for each in given if isinstance(each, str | int)))
    link.hear()
    started = _Started(child, given) if not failed else None
    link.tell("bound, or not")
    link.hear()
    came = started.end() if started else failed
    for each in given:
        if isinstance(each, socket.socket):
            each.close()
    link.tell(came)


def _found(launch: Launch) -> tuple[Sequence[Any], str]:
    try:
        return list(launch()), ""
    except Exception as error:
        return [""], _text(error)


class _Started:
    """A child of this launcher. came: its outcome; when it is known, the child has bound, failed or ended."""

    def __init__(self, child: Child, given: Sequence[Any]) -> None:
        self._ours, theirs = socket.socketpair()
        if (pid := os.fork()) == 0:
            self._ours.close()
            _be_a_child(child, given, theirs)
        theirs.close()
        self._pid = pid
        self._ours.settimeout(CHILD_SECONDS)
        try:
            self.came = self._ours.recv(65536).decode()
        except TimeoutError:
            self.came = STUCK

    def end(self) -> str:
        """Kill the child, and wait for it. Returns its outcome, which is its end if it had ended already."""
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._ours.close()
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            return self.came
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


# ---- in a child ------------------------------------------------------------------------------------------------------


def _be_a_child(child: Child, given: Sequence[Any], launcher: socket.socket) -> NoReturn:
    _hush()
    kept = []  # or the socket would be closed, and its port free again
    try:
        kept.append(child(*given))
        came = BOUND
    except Exception as error:
        came = LOST if getattr(error, "errno", 0) == errno.EADDRINUSE else _text(error)
    launcher.sendall(came.encode())
    launcher.recv(1)  # until the launcher has ended, which otherwise ends this process first
    os._exit(0)


def _hush() -> None:
    """Write no stderr: an assertion of libzmq ends this process by SIGABRT, and a crowd's stacks would hide that."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
