"""The reader's record: predictions, claims, checks and quiz answers, one JSON line each in a local file.

Runs in the kernel. Several kernels may write at once, because each line is appended in one write. Nothing leaves the
reader's machine. In batch runs nothing is written: entries last as long as the kernel.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STABLE = "LAB_STABLE_OUTPUT"
"""Set while the published notebooks are made: process labels then replace pids, so that a new run changes less."""
BATCH = "LAB_BATCH"
"""Set in runs without a reader: results are drawn at once, false claims end the run, nothing is written."""
NOTEBOOK = "LAB_NOTEBOOK"
"""The number of the notebook that this kernel runs, as `lab.start` remembers it."""
KINDS = ("prediction", "claim", "check", "quiz")

_in_memory: list["Entry"] = []
"""The one mutable state here: entries of this kernel that are in no file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. at: seconds since 1970. fields: all but kind, name and at."""

    kind: str
    name: str
    at: float
    fields: dict[str, Any]


def in_batch() -> bool:
    """Whether this run has no reader, such as the build of the published notebooks."""
    return bool(os.environ.get(STABLE) or os.environ.get(BATCH))


def path() -> Path:
    """The record's file, whether it exists or not: LAB_RECORD names it, else it is below the notebook's folder."""
    named = os.environ.get("LAB_RECORD")
    return Path(named) if named else Path.cwd() / ".lab" / "record.jsonl"


def note(kind: str, name: str, **fields: Any) -> None:
    """Append an entry. kind: one of `KINDS`. fields: values that JSON can hold.
    The number of the notebook is added as `notebook`, if `lab.start` was given it.

    If the file can't be written, this says so once, and the entry lasts as long as the kernel.
    """
    assert kind in KINDS, f"got {kind!r}, expected one of {', '.join(KINDS)}"
    if number := os.environ.get(NOTEBOOK):
        fields = {"notebook": number, **fields}
    entry = Entry(kind, name, time.time(), fields)
    line = json.dumps({"kind": kind, "name": name, "at": entry.at, **fields}, ensure_ascii=False)
    if in_batch():
        _in_memory.append(entry)
        return
    try:
        _append(path(), line + "\n")
    except OSError as error:
        if not _in_memory:
            expected = "a folder that can be written to; LAB_RECORD may name another file"
            print(f"Your record can't be kept: got {error}, expected {expected}.", file=sys.stderr)
        _in_memory.append(entry)


def _append(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = "\n" + text  # a torn last line must not swallow this one
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def entries(kind: str | None = None, name: str | None = None, path: Path | None = None) -> list[Entry]:
    """The entries in order, of one kind or name if given. Lines that are torn, or are no entries, are skipped.

    path: another reader's file. Raises `OSError` if that can't be read.
    """
    found = [*_mine(), *_in_memory] if path is None else _read(path)
    return [entry for entry in found if kind in (None, entry.kind) and name in (None, entry.name)]


def _mine() -> list[Entry]:
    file = path()
    return _read(file) if not in_batch() and file.is_file() else []


def _read(file: Path) -> list[Entry]:
    lines = file.read_bytes().decode(errors="replace").split("\n")
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: str) -> Entry | None:
    try:
        fields = json.loads(line)
        return Entry(fields.pop("kind"), fields.pop("name"), fields.pop("at"), fields)
    except (ValueError, AttributeError, KeyError):
        return None
