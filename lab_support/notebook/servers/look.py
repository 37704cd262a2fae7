"""Observations of a live server: its processes from /proc, as plain dataclasses, and its metrics.

Everything is measured here and drawn elsewhere (`plots.py`, `tables.py`). Runs in the kernel.
"""

import time

from lab_support.instruments import proc
from lab_support.notebook.page.role_view import RoleView
from lab_support.notebook.servers.live_server import Server

_MB = 1e6
_SETTLED = 0.4


class MetricError(RuntimeError):
    """The server did not give its metrics. The text says why, and what to do."""


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
    """The value of `name` in the server's /metrics, summed over its labels; 0 before the first observation.

    Engine cores report with a delay. So it is read until it stays the same for `_SETTLED` seconds,
    or for 5 seconds at most: on an idle server the figure is final. Raises `MetricError` if the server refuses.
    """
    deadline = time.monotonic() + 5.0
    value = _read_metric(server, name)
    while time.monotonic() < deadline:
        time.sleep(_SETTLED)
        before, value = value, _read_metric(server, name)
        if value == before:
            break
    return value


def read_metrics(server: Server) -> dict[str, float]:
    """Every figure in the server's /metrics by its name, summed over its labels. Raises `MetricError` if it refuses."""
    answer = server.session.get(f"{server.url}/metrics", timeout=10)
    if answer.status_code != 200:
        advice = "; `server.api_key` must be the key that it was started with" if answer.status_code == 401 else ""
        raise MetricError(f"got {answer.status_code} from {server.url}/metrics, expected 200{advice}")
    return by_name(answer.text)


def by_name(text: str) -> dict[str, float]:
    """The figures in the text of a /metrics, each summed over its labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def _read_metric(server: Server, name: str) -> float:
    return read_metrics(server).get(name, 0.0)
