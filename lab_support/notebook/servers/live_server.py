"""A real server for some cells: `server = lab.live_server(api_server_count=3)` … `server.stop()`.

It is started as any user would start it, `python -m lab_support serve`, and seen as any operator could see
it: by HTTP, signals and /proc. It dies with the kernel. No server code runs in the kernel. Running the same cell again
stops the server that it started before, and starts another.
"""

import atexit
import dataclasses
import dis
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from lab_support.config import ServerConfig, words_for
from lab_support.instruments import proc
from lab_support.instruments.proc import Identity
from lab_support.notebook.cells.supervised import SupervisedProcess, temporary_folder
from lab_support.notebook.servers.key_of_its_own import in_environment, take_key

if TYPE_CHECKING:
    import requests

    from lab_support.notebook.servers.traced import ServerTrace

AtPortOpen = Callable[[tuple[str, int], str | None], object]

START_SECONDS = 120.0
_GRACE_BEYOND_DRAIN = 5.0
_TRACE = "trace"
_SERVE = ("-m", "lab_support", "serve")
_LOOK_EVERY = 0.002  # seconds between two looks whether the port is open
_ASSIGNS = ("STORE_NAME", "STORE_FAST")  # in a cell or a script, and in a function


class ServerNotReady(RuntimeError):
    """The server ended, or was not ready in time. The text ends with the server's output."""


@dataclass(slots=True, eq=False)
class Server:
    """A server that is ready, or has been stopped. A context manager: leaving it stops the server.

    url: its base URL. run_id: also in its /version. pids: by role, such as "api-0".
    identities: the same processes by pid and start time, so that a reused pid is not mistaken for them. model: the
    name to ask for. seconds_to_ready: of its start. api_key: its key, which no output shows; None if it asks for none.
    stand_in: words for what stands in for a GPU (`device="paced:8B"`), for titles of figures; "" if nothing does.
    """

    url: str
    run_id: str
    model: str
    pids: dict[str, int]
    identities: dict[str, Identity]
    seconds_to_ready: float
    api_key: str | None
    _supervised: SupervisedProcess
    _trace_folder: Path | None = None
    _session: "requests.Session | None" = None
    _said: str | None = None
    stand_in: str = ""
    _left: "Leftovers | None" = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "ready" if self._supervised.running else "stopped"
        on = f", on a {self.stand_in}" if self.stand_in else ""
        return f"{state}: {self.url}, {len(self.pids)} processes: {', '.join(self.pids)}{on}"

    @property
    def session(self) -> "requests.Session":
        """A `requests.Session` that sends this server its key: `server.session.get(f"{server.url}/version")`.

        Each request opens its own connection. `stop` closes it. A process of its own gets the key instead:
        `url, key = server.url, server.api_key`, then `%%python_process --inputs url,key`.
        """
        if self._session is None:
            from lab_support.notebook.servers.server_session import session_for  # 0.1 s, which most cells need not pay

            self._session = session_for(self.url, self.api_key)
        return self._session

    @property
    def trace(self) -> "ServerTrace":
        """The trace that it writes, from its start on. Raises `LookupError` unless it was started with `trace=True`."""
        if self._trace_folder is None:
            raise LookupError("got a server without a trace, expected one from `lab.live_server(trace=True)`")
        from lab_support.notebook.servers.traced import ServerTrace  # 0.1 s, which most cells need not pay

        return ServerTrace(self._trace_folder)

    @property
    def port(self) -> int:
        """The TCP port of its listening socket."""
        return int(self.url.rpartition(":")[2])

    @property
    def api_servers(self) -> list[str]:
        """The roles that speak HTTP."""
        return [role for role in self.pids if role.startswith("api-")]

    @property
    def log(self) -> str:
        """Its terminal output so far."""
        if self._said is not None:
            return self._said
        return self._supervised.output + self._supervised.errors

    def survivors(self) -> list[str]:
        """Roles whose original process still runs, by pid and start time."""
        return [role for role, identity in self.identities.items() if proc.is_running(identity)]

    def stop(self) -> "Leftovers":
        """Send SIGTERM to the launcher and wait; return what is left, which should be nothing. Again is harmless.

        When it returns, every process of the server has been waited for. Worst case: the server's
        `shutdown_timeout` and 5 seconds, then its supervisor kills it.
        """
        if self._left is not None:
            return self._left
        if self._session is not None:
            self._session.close()
        self._supervised.stop()
        self._said = self.log
        files = [name for name in self._supervised.files_left() if not self._is_trace(name)]
        self._left = Leftovers(self.survivors(), proc.holders_of_listening_socket(self.port), files)
        self._supervised.close()
        _live.remove(self)
        return self._left

    def _is_trace(self, name: str) -> bool:
        return self._trace_folder is not None and Path(name).parts[0] == _TRACE


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The leftovers of a stopped server; false if there are none.

    running: roles that still run. holders: processes that hold its socket. files: names of those in its temporary
    folder.
    """

    running: list[str]
    holders: list[proc.Holder]
    files: list[str]

    def __bool__(self) -> bool:
        return bool(self.running or self.holders or self.files)

    def __repr__(self) -> str:
        return (
            f"processes left: {', '.join(self.running) or 'none'} · holders of the port: {len(self.holders) or 'none'}"
            f" · files left: {', '.join(self.files) or 'none'}"
        )


_live: list[Server] = []
"""The one mutable state here: `cleanup` must find a server whose variable a later cell has overwritten."""


def live_server(*, trace: bool = False, at_port_open: AtPortOpen | None = None, **choices: Any) -> Server:
    """Start a server in processes of its own and wait until it is ready.

    choices: `lab serve`'s flags with underscores, such as `api_server_count=3`. By default the port is a free one, and
    the server asks for a new key, because every user of this machine can connect to it; `lab`'s own functions and
    `server.session` send it. `api_key="…"` gives it another key, `api_key=None` none.
    trace: let it write a trace, which `server.trace` reads until the server is stopped. at_port_open: called once, in
    this process, with the address and the key, as soon as the port is open and long before the server is ready. It
    must not wait for an answer. There is a trace then, too, because it says when the port is open.
    If the variable that gets the new server holds one that still runs, that is stopped first: running
    `server = live_server()` again replaces it.
    Raises `ConfigError` for a choice that can't work, `ServerNotReady` if the server does not come up.
    """
    _checked(choices)  # before another server is stopped
    stop_predecessor(sys._getframe(1))
    return start(_SERVE, choices, trace=trace, at_port_open=at_port_open)


def start(
    program: Sequence[str], choices: Mapping[str, Any], *, trace: bool = False, at_port_open: AtPortOpen | None = None
) -> Server:
    """`live_server` for any program that takes the flags of `lab serve`. No other server is stopped.

    program: Python's arguments before the flags.
    """
    wanted, key, config = _checked(choices)
    began = time.monotonic()
    with ExitStack() as until_ready:  # an interrupt during the start must not leave a server behind either
        read_end, write_end = os.pipe()
        until_ready.callback(os.close, read_end)
        command = [sys.executable, *program, *_flags(wanted), "--ready-fd", str(write_end)]
        grace, folder = config.shutdown_timeout + _GRACE_BEYOND_DRAIN, temporary_folder()
        traced = folder / _TRACE if trace or at_port_open else None
        command += ["--trace-dir", str(traced)] if traced else []
        secret = in_environment(key)
        supervised = SupervisedProcess(command, grace=grace, ready_fd=write_end, environment=secret, folder=folder)
        until_ready.callback(supervised.close)
        if traced and at_port_open:
            _call_at_port_open(at_port_open, key, traced, supervised, read_end)
        facts = _await_ready(supervised, read_end)
        server = _server(facts, key, supervised, traced, time.monotonic() - began)
        until_ready.pop_all()
        os.close(read_end)
    keep_track(server)
    return server


def _checked(choices: Mapping[str, Any]) -> tuple[dict[str, Any], str | None, ServerConfig]:
    """The flags without the key, the key, and the config. Raises `ConfigError`."""
    wanted = {"port": 0, **choices}
    key = take_key(wanted)
    return wanted, key, ServerConfig(**wanted, api_key=() if key is None else (key,))


def keep_track(server: Server) -> None:
    """From now on `cleanup` and the end of the kernel stop this server."""
    if not _live:
        atexit.register(cleanup)
    _live.append(server)


def cleanup() -> list[Leftovers]:
    """Stop every live server of this notebook; return the leftovers of each."""
    return [server.stop() for server in list(_live)]


def stop_predecessor(caller: FrameType) -> None:
    """Stop the server in the variable that `caller` assigns the result of its current call to.

    First, because the new one may want its port, and after the assignment no variable names it.
    """
    name = _assigned_to(caller)
    old = caller.f_locals.get(name)
    if isinstance(old, Server) and old in _live:
        print(f"the server at {old.url} is stopped: another one becomes `{name}`")
        old.stop()


def _assigned_to(caller: FrameType) -> str:
    """The variable that the caller's next instruction assigns the current call's result to; "" if there is none."""
    later = (each for each in dis.get_instructions(caller.f_code) if each.offset > caller.f_lasti)
    following = next(later, None)
    return str(following.argval) if following and following.opname in _ASSIGNS else ""


def _flags(choices: dict[str, Any]) -> list[str]:
    known = {choice.name for choice in dataclasses.fields(ServerConfig)}
    assert choices.keys() <= known, "ServerConfig has refused the others"
    return words_for(choices)


def _await_ready(supervised: SupervisedProcess, read_end: int) -> dict[str, Any]:
    """The facts in the server's ready line. If the server ends without one, so does the pipe."""
    text, deadline = b"", time.monotonic() + START_SECONDS
    while not text.endswith(b"\n"):
        if not supervised.readable(read_end, max(0.0, deadline - time.monotonic())):
            raise ServerNotReady(f"got no ready line in {START_SECONDS:.0f} s; the server said:\n{_tail(supervised)}")
        piece = os.read(read_end, 65536)
        if not piece:
            supervised.wait(5)
            raise ServerNotReady(f"the server ended before it was ready; it said:\n{_tail(supervised)}")
        text += piece
    return json.loads(text)


def _tail(supervised: SupervisedProcess) -> str:
    return "\n".join((supervised.output + supervised.errors).splitlines()[-12:])


def _call_at_port_open(
    call: AtPortOpen, key: str | None, traced: Path, supervised: SupervisedProcess, ready: int
) -> None:
    """Wait until the trace names the open port. If the server ends before, so does the pipe `ready`: no call then."""
    from lab_support.notebook.servers.traced import ServerTrace

    trace = ServerTrace(traced)
    while not (address := trace.address()):
        if supervised.readable(ready, _LOOK_EVERY):
            return
    call(address, key)


def _server(
    facts: dict[str, Any], api_key: str | None, supervised: SupervisedProcess, traced: Path | None, seconds: float
) -> Server:
    return Server(
        url=facts["url"],
        run_id=facts["run_id"],
        model=facts["model"],
        pids=dict(facts["pids"]),
        identities=identities_of(facts["pids"]),
        seconds_to_ready=seconds,
        api_key=api_key,
        _supervised=supervised,
        _trace_folder=traced,
        stand_in=facts["details"]["engine-0"].get("stand_in", ""),
    )


def identities_of(pids: dict[str, int]) -> dict[str, Identity]:
    """By role, those of the processes that are still there."""
    processes = {role: proc.read_process(pid) for role, pid in pids.items()}
    return {role: process.identity for role, process in processes.items() if process is not None}
