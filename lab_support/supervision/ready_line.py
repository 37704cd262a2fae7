"""The launcher's report that the server is ready: a line for people, and one of JSON for the program that asked for it.

They are for information only: if they can't be written, the server serves all the same.
"""

import json
import logging
import os
from dataclasses import dataclass

from lab_support import __version__
from lab_support.config import ConfigError, ServerConfig
from lab_support.log import Outlet

log = logging.getLogger("lab.launcher")


@dataclass(frozen=True, slots=True)
class ReadyServer:
    """pids: by name. details: the details in each process's `Ready` message, by name."""

    url: str
    run_id: str
    pids: dict[str, int]
    details: dict[str, dict[str, str | int | float]]


def check_ready_fd(descriptor: int | None) -> None:
    """Raise `ConfigError` if --ready-fd is not open."""
    if descriptor is None:
        return
    try:
        os.fstat(descriptor)
    except OSError as error:
        raise ConfigError(f"--ready-fd: got {descriptor}, which is not open here; pass an inherited one") from error


def announce(config: ServerConfig, server: ReadyServer) -> None:
    """Write to standard output, and to --ready-fd, which is closed then. Never waits."""
    engine = server.details["engine-0"]
    where = f"a {engine['stand_in']}" if "stand_in" in engine else f"{engine['device']} in {engine['dtype']}"
    line = f"Ready: {server.url} serves {config.model_name!r} with {config.processes} on {where}. Ctrl-C stops it.\n"
    _write("standard output", 1, line)
    if config.ready_fd is not None:
        _write(f"--ready-fd {config.ready_fd}", config.ready_fd, _facts(config, server))
        if config.ready_fd > 2:
            os.close(config.ready_fd)


def _facts(config: ServerConfig, server: ReadyServer) -> str:
    facts = {
        "url": server.url,
        "run_id": server.run_id,
        "version": __version__,
        "model": config.model_name,
        "pids": server.pids,
        "details": server.details,
    }
    return json.dumps(facts) + "\n"


def _write(where: str, descriptor: int, line: str) -> None:
    trouble = Outlet(descriptor).write(line.encode(errors="backslashreplace"))
    if trouble:
        log.warning("%s did not take the line that says that the server is ready: %s; it still serves", where, trouble)
