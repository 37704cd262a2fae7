"""Measurements that outlive a proof which is stopped: one line each in a file, under a key of what they depend on."""

import fcntl
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "build" / "proofs"
NONE: Mapping[str, list[Any]] = MappingProxyType({})


class InUse(RuntimeError):
    """Another process measures for the same file."""


class Kept:
    """The measurements by key, in the order in which they were made. Each is on the disk when `add` returns.

    before: others of the same keys, which were made before those in the file.
    """

    def __init__(self, file: TextIO, before: Mapping[str, list[Any]]) -> None:
        self._file = file
        self._by_key: dict[str, list[Any]] = defaultdict(list, {key: list(found) for key, found in before.items()})
        for line in _whole_lines(file):
            self._by_key[line["key"]].append(line["measured"])

    def of(self, key: str) -> list[Any]:
        return list(self._by_key[key])

    def add(self, key: str, measured: Any) -> None:
        self._file.write(json.dumps({"key": key, "measured": measured}, ensure_ascii=False) + "\n")
        self._file.flush()
        self._by_key[key].append(measured)


@contextmanager
def kept_in(file: Path, *, again: bool = False, before: Mapping[str, list[Any]] = NONE) -> Iterator[Kept]:
    """The measurements of `before` and those kept in `file`; with `again` the file's are forgotten. Raises `InUse`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(f"{file.name}: another process measures for it; wait for its end, or stop it") from error
        if again:
            opened.truncate(0)
        yield Kept(opened, before)


def _whole_lines(file: TextIO) -> Iterator[dict[str, Any]]:
    """The lines of the file. A process that was killed while it wrote has left half of one, which is cut off."""
    file.seek(0)
    text = file.read()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.truncate(len(whole.encode()))
    return map(json.loads, whole.splitlines())
