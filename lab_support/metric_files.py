"""The files that API servers share their metrics in: one of each kind for every slot, made before any process starts.

prometheus_client maps them and writes to them as to memory. By default it would name them by process id: then each API
server that ever lived leaves some, and all of them are read for every answer of /metrics. Named by slot, a successor
goes on with its predecessor's counters. A slot belongs to one process until that has been waited for.

The launcher makes them in full size, because a write into a mapped page for which the disk has no room is a SIGBUS. So
each is as large as it can ever become (a test measures that), and has its room on the disk from the start.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from lab_support.config import ServerConfig

_GAUGES = "gauge_mostrecent"
_ENTRIES = {"counter": (28, 48), _GAUGES: (12, 4), "histogram": (112, 0)}  # by kind: per engine core, per API server
_ENTRY = 240  # bytes without the model's name; help text, labels and numbers
_PAGE = 4096


def metric_files(config: ServerConfig) -> dict[str, int]:
    """The size in bytes that each file must have, by its name."""
    entry = _ENTRY + len(json.dumps(config.model_name))
    return {
        _name(kind, slot): _whole_pages((config.data_parallel_size * of_engine + own) * entry)
        for slot in range(2 * config.api_server_count)
        for kind, (of_engine, own) in _ENTRIES.items()
    }


def clear_gauges(directory: str, slot: int) -> None:
    """Clear the gauges of an API server that has ended, because they are out of date. Its counters stay."""
    with suppress(OSError):  # the folder may be gone
        descriptor = os.open(Path(directory) / _name(_GAUGES, slot), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, bytes(4), 0)  # how much of it is in use
        finally:
            os.close(descriptor)


def _name(kind: str, slot: int) -> str:
    return f"{kind}_{slot}.db"


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
