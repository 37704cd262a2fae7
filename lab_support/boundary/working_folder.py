"""The folder that the server was started in: how its paths depend on it, and what happens if it is removed.

Spawn asks for the parent's working folder (getcwd(2)), and fails if that has been removed, like an old release whose
server still runs. So the launcher leaves such a folder. Until then it stays where it was started, as do its children.
"""

import dataclasses
import logging
import os
from pathlib import Path

from lab_support.config import ServerConfig
from lab_support.pace.choice import anchored_device

log = logging.getLogger("lab.launcher")

ROOM_FOR_A_PATH = 107  # bytes in the address of a Unix socket: unix(7)


def anchored(config: ServerConfig) -> ServerConfig:
    """The same configuration with all paths absolute, TMPDIR too, so that they mean the same as long as it runs."""
    if (folder := os.environ.get("TMPDIR")) is not None:
        os.environ["TMPDIR"] = _absolute(folder)
    model = Path(_absolute(str(config.model)))
    uds = config.uds and _absolute(config.uds)
    if uds and len(os.fsencode(uds)) > ROOM_FOR_A_PATH:
        uds = config.uds
    generation = config.generation_config
    if generation not in ("auto", "vllm"):
        generation = _absolute(generation)
    trace = config.trace_dir and _absolute(config.trace_dir)
    device = anchored_device(config)
    return dataclasses.replace(
        config, model=model, uds=uds, generation_config=generation, trace_dir=trace, device=device
    )


def _absolute(path: str) -> str:
    try:
        return str(Path(path).absolute()) if path else path
    except FileNotFoundError:  # the working folder has been removed already
        return path


def leave_if_gone() -> None:
    """Go to / if the working folder has been removed. Called before a process is made."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")
        log.warning("the folder that the server was started in has been removed; it goes on in /")
