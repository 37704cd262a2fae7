"""What the notebooks look at: a live server's processes from /proc, as plain dataclasses; and a load on it.

Everything is measured here and drawn elsewhere (`plots.py`, `tables.py`). All runs in the kernel but the
load, which is a process of its own, because a load generator inside a kernel would measure the kernel.
"""

import os
import re
import sys
import time
from dataclasses import dataclass
from typing import IO, Any
from urllib.request import Request, urlopen

from IPython import get_ipython
from IPython.display import DisplayHandle, display

from lab_support.config import as_flag
from lab_support.instruments import proc, report
from lab_support.instruments.load_progress import read_progress
from lab_support.instruments.report import Report
from lab_support.notebook.live_load import LiveLoad
from lab_support.notebook.live_server import Server
from lab_support.notebook.record import in_batch
from lab_support.notebook.supervised import SupervisedProcess

_MB = 1e6
_SETTLED = 0.4
_PATIENCE = 10.0  # seconds from a load's last line of progress to its report


class LoadFailed(RuntimeError):
    """`lab load` ended without a report. The text is what it said."""


@dataclass(frozen=True, slots=True)
class RoleView:
    """One process of a server at one moment. Memory in MB (10⁶ bytes); parent is a role, or "".

    socket_numbers: its descriptor numbers of the server's listening socket; socket_inode: that kernel
    object's number, 0 if it holds none. maps_torch: whether a libtorch library is mapped in it.
    """

    role: str
    pid: int
    parent: str
    title: str
    threads: int
    resident_mb: float
    proportional_mb: float
    private_mb: float
    maps_torch: bool
    libraries: int
    socket_numbers: tuple[int, ...]
    socket_inode: int
    queued: int


def look(server: Server) -> list[RoleView]:
    """Every process of `server` that runs now, the launcher first. A stopped server has none."""
    holders = proc.holders_of_listening_socket(server.port, server.pids.values())
    roles = {pid: role for role, pid in server.pids.items()}
    processes = (proc.read_process(pid) for pid in server.pids.values())
    views = (_view(process, roles, holders) for process in processes if process and not process.ended)
    return [view for view in views if view is not None]


def _view(process: proc.Process, roles: dict[int, str], holders: list[proc.Holder]) -> RoleView | None:
    memory = proc.read_memory(process.pid)
    if memory is None:
        return None
    mine = [holder for holder in holders if holder.process.pid == process.pid]
    libraries = proc.mapped_libraries(process.pid)
    return RoleView(
        role=roles[process.pid],
        pid=process.pid,
        parent=roles.get(process.parent_pid, ""),
        title=process.title if process.title.startswith("lab:") else process.name,
        threads=process.threads,
        resident_mb=memory.rss / _MB,
        proportional_mb=memory.pss / _MB,
        private_mb=memory.uss / _MB,
        maps_torch=any(name.startswith("libtorch") for name in libraries),
        libraries=len(libraries),
        socket_numbers=tuple(holder.number for holder in mine),
        socket_inode=mine[0].socket.inode if mine else 0,
        queued=mine[0].socket.queued if mine else 0,
    )


def metric(server: Server, name: str) -> float:
    """What the server's /metrics says of `name`, summed over all that it tells apart; 0 before the first.

    Engine cores report a moment after the fact. So it is read until it stays the same for `_SETTLED` seconds,
    or for 5 seconds at most: on an idle server the figure is final.
    """
    deadline = time.monotonic() + 5.0
    value = _read_metric(server, name)
    while time.monotonic() < deadline:
        time.sleep(_SETTLED)
        before, value = value, _read_metric(server, name)
        if value == before:
            break
    return value


def _read_metric(server: Server, name: str) -> float:
    key = {"Authorization": f"Bearer {server.api_key}"} if server.api_key else {}
    with urlopen(Request(f"{server.url}/metrics", headers=key), timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{re.escape(name)}[ {{]", line))


def drive(server: Server, *, brief: bool = False, live: bool = True, **choices: Any) -> Report:
    """Run `lab load` against `server` in a process of its own and wait for its report.

    brief: show two lines of the report instead of its table. live: a picture of it while it runs, whose last frame
    stays; in batch runs there is the last frame alone.
    choices: the command's flags with underscores, such as `clients=8, requests=100, output_tokens="4-64"`.
    Raises `LoadFailed` if it refuses. It ends with the kernel, and an interrupt of the cell ends it.
    """
    choices = ({"api_key": server.api_key} if server.api_key else {}) | choices
    words = [word for name, value in choices.items() for word in _flag(name, value)]
    told, telling = os.pipe()
    command = [sys.executable, "-m", "lab_support", "load", server.url, *words, "--progress-fd", str(telling)]
    picture = LiveLoad(", ".join(f"{name} {value}" for name, value in choices.items() if name != "api_key") or "a load")
    with open(told, encoding="utf-8") as lines, SupervisedProcess(command, grace=1.0, ready_fd=telling) as running:
        _follow(lines, picture, live)
        running.wait(_PATIENCE)
        *people, program = running.output.splitlines() or [""]
        said = running.errors
    running.close()
    if not program.startswith("{"):
        raise LoadFailed(said.strip())
    _show_words("\n".join(people[:2] if brief else people))
    return report.from_json(program)


def _follow(lines: IO[str], picture: LiveLoad, live: bool) -> None:
    """Show each frame until the load has ended: the end of its lines."""
    place: DisplayHandle | None = None
    batch = in_batch()
    for progress in read_progress(lines):
        picture.add(progress)
        if live and not batch:
            place = _show_frame(picture, place)
    if live and batch and picture.seen:
        _show_frame(picture, None)


def _show_frame(picture: LiveLoad, place: DisplayHandle | None) -> DisplayHandle | None:
    """In this cell's output, where the frame before was; its place. Outside of a notebook nothing is shown."""
    if get_ipython() is None:
        return None
    data, metadata = picture._repr_mimebundle_()
    if place is None:
        return display(data, metadata=metadata, raw=True, display_id=True)
    place.update(data, metadata=metadata, raw=True)
    return place


def _show_words(text: str) -> None:
    if get_ipython() is not None:
        display({"text/plain": text}, raw=True)


def _flag(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [as_flag(name) if value else as_flag(f"no_{name}")]
    return [as_flag(name), str(value)]
