"""The pace that `--device paced:…` names, and whether a server can be run at it."""

import logging
from pathlib import Path

from lab_support.config import ConfigError, ServerConfig
from lab_support.flags import as_flag
from lab_support.pace.pace import Pace
from lab_support.pace.recorded import read_recorded
from lab_support.pace.table import read_table

log = logging.getLogger("lab.launcher")

_OF_A_DEVICE = ("dtype", "enforce_eager", "gpu_memory_utilization", "torch_threads")


def pace_of(config: ServerConfig) -> Pace | None:
    """The pace of `--device paced:NAME` or `paced:FILE`; None under another device. Runs in any process.

    A recorded name comes first, so a file of the same name is named by its path, `./8B`. Raises `ConfigError`.
    """
    if config.paced is None:
        return None
    recorded = read_recorded()
    if config.paced in recorded:
        pace = recorded[config.paced]
        _check_rows(pace, recorded)
    else:
        pace = _own(config.paced, recorded)
    if config.max_num_seqs > pace.most_rows:
        raise ConfigError(
            f"--max-num-seqs: got {config.max_num_seqs}, expected at most {pace.most_rows} under --device "
            f"{config.device}, because a step of more rows was not measured; give --max-num-seqs {pace.most_rows}"
        )
    return pace


def anchored_device(config: ServerConfig) -> str:
    """`--device` with an absolute path, if it names the file of a table."""
    if config.paced is None or config.paced in read_recorded() or not Path(config.paced).exists():
        return config.device
    return f"paced:{Path(config.paced).absolute()}"


def _own(name: str, recorded: dict[str, Pace]) -> Pace:
    file = Path(name)
    if not file.exists() and len(file.parts) == 1 and not file.suffix:
        names = ", ".join(each.name for each in recorded.values() if each.least_rows == 1)
        raise ConfigError(f"--device: got paced:{name}, expected a recorded pace ({names}) or the file of a table")
    return read_table(file)


def _check_rows(pace: Pace, recorded: dict[str, Pace]) -> None:
    """A server's batch shrinks to one row, so a recording has to begin there."""
    if pace.least_rows > 1:
        names = " or ".join(f"paced:{each.name}" for each in recorded.values() if each.least_rows == 1)
        raise ConfigError(
            f"--device: got paced:{pace.name}, of which only steps of {pace.least_rows} rows were recorded, expected "
            f"steps from 1 row on, because every batch shrinks to one; give {names}, or the file of a table"
        )


def log_pace(config: ServerConfig, pace: Pace) -> None:
    """Say what stands in for the device, and which flags change nothing under it. Runs in the launcher."""
    log.warning("--device %s: %s; nothing is computed, and answers are random tokens", config.device, pace.title)
    given = [as_flag(name) for name in _OF_A_DEVICE if getattr(config, name) != getattr(ServerConfig(), name)]
    if given:
        log.warning("%s: accepted, but changes nothing under --device %s", ", ".join(given), config.device)
