"""The tables of sockets in /proc/PID/net, as records of fields. Their readers document what the fields mean.

A Unix socket's name ends its line and may hold line feeds, so a line that does not begin like a record continues the
name before it. A name that imitates a whole record is taken for one; sock_diag, which gives lengths, is not fooled.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from lab_support.instruments.foreign_text import read_text, visible

_UNIX_RECORD = re.compile(r"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{4} [0-9A-F]{2} +\d+")


def tcp_records(folder: Path, table: str) -> Iterator[list[str]]:
    """The fields of each socket in `folder`/tcp or tcp6; nothing if there is no such table."""
    return (line.split() for line in _lines(folder / table))


def unix_records(folder: Path) -> Iterator[list[str]]:
    """Seven fields of each Unix socket in `folder`/unix, then its name, "" if it has none."""
    for line in _joined(_lines(folder / "unix")):
        fields = line.split(maxsplit=6)
        inode, _, name = fields.pop().partition(" ")
        yield [*fields, inode, visible(name)]


def _joined(lines: list[str]) -> list[str]:
    records: list[str] = []
    for line in lines:
        if _UNIX_RECORD.match(line):
            records.append(line)
        elif records:
            records[-1] += "\n" + line
    return records


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).removesuffix("\n").split("\n")[1:]
    except (FileNotFoundError, ProcessLookupError):
        return []  # no IPv6 in this kernel, or the process has ended
