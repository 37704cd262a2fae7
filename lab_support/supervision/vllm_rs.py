"""Where vLLM's front end is, whether it can be used, and whether it accepts connections yet.

The program says on no descriptor of ours when it is ready. But it puts the listening socket into an epoll set once its
engine cores are connected and its model's files are read, and the kernel tells that in /proc.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lab_support.boundary.start_method import told_by
from lab_support.config import ConfigError, ServerConfig
from lab_support.flags import as_flag

NAME = "vllm-rs"
SPOKEN = "0.33"
"""The versions whose messages boundary/vllm/layouts.py speaks; others are used with a warning."""
OF_OUR_API_SERVERS = ("max_num_queued_reqs", "max_body_bytes", "body_timeout", "api_server_memory_mib")
"""Flags of which the program has no equal."""


def find(frontend: str) -> Path:
    """The program that `--frontend` asks for. Raises `ConfigError` where there is none that could run."""
    _, _, path = frontend.partition(":")
    asked = path or os.environ.get("VLLM_RUST_FRONTEND_PATH") or _beside_vllm()
    if asked is None:
        raise ConfigError(
            "--frontend: got vllm-rs, but no vllm is installed here; give vllm-rs:PATH, or its path in "
            "VLLM_RUST_FRONTEND_PATH"
        )
    found = Path(asked)
    if found.is_dir():
        found /= NAME
    if not os.access(found, os.X_OK) or not found.is_file():
        raise ConfigError(f"--frontend: got {found}, expected the program vllm-rs; name one that may be run")
    return found


def version_of(program: Path) -> str:
    """Such as 0.33.0. Raises `ConfigError` where it can't run on this machine."""
    try:
        told = told_by(program, "--version", seconds=20)
    except OSError as error:
        raise ConfigError(f"--frontend: {program} can't run on this machine: {error.strerror}; get another") from error
    found = re.fullmatch(rf"{NAME} (\d+\.\d+\S*)", told.stdout.strip())
    if not found:
        words = (told.stderr or told.stdout).strip().splitlines()[:1]
        raise ConfigError(f"--frontend: {program} is no {NAME} that can run here: {' '.join(words) or 'it is silent'}")
    return found[1]


def remarks(config: ServerConfig) -> Iterator[str]:
    """Warnings for the log: of another version, and of flags that it doesn't have. Raises `ConfigError`."""
    version = version_of(find(config.frontend))
    if not version.startswith(SPOKEN + "."):
        yield f"--frontend: got {NAME} {version}; the engine cores speak as vLLM {SPOKEN} does, which may differ"
    usual = ServerConfig()
    given = [as_flag(name) for name in OF_OUR_API_SERVERS if getattr(config, name) != getattr(usual, name)]
    if given:
        yield f"{', '.join(given)}: accepted, but changes nothing under --frontend {NAME}"


def _beside_vllm() -> Path | None:
    spec = importlib.util.find_spec("vllm")  # which doesn't import it
    return Path(spec.origin).with_name(NAME) if spec and spec.origin else None


def accepts(pid: int, inode: int) -> bool:
    """Whether the process waits for connections to the listening socket with that inode, in an epoll set."""
    return any(_is_socket(pid, watched, inode) for watched in _watched(pid))


def _watched(pid: int) -> Iterator[str]:
    """The descriptors that the process has put into its epoll sets, by number: proc(5), fdinfo."""
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") == "anon_inode:[eventpoll]":
                    yield from re.findall(r"tfd:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{number}").read_text())


def _is_socket(pid: int, number: str, inode: int) -> bool:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{number}") == f"socket:[{inode}]"
    return False
