"""Measurements that come with the repository: made on another day, perhaps on another machine, of the same code.

`tests/proofs/recorded/NN.jsonl` has one line for each proof. They are used only where they are asked for
(`--recorded`), and only under the key of today's code, so a change makes those that depend on it void.
"""

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recorded"


def recorded(number: str, folder: Path = FOLDER) -> dict[str, list[Any]]:
    """The measurements of the notebook by key, each key's in the order in which they were made."""
    lines = _lines(folder / f"{number}.jsonl")
    return {line["key"]: list(_each(line["measured"])) for line in lines}


def record(number: str, measured: Iterable[tuple[str, str, list[Any]]], folder: Path = FOLDER) -> Path:
    """Write the measurements in place of those recorded before. measured: a proof's name, its key, and what it found.

    A proof of which nothing more was measured keeps the words that say when and where that was.
    """
    file = folder / f"{number}.jsonl"
    before = {(line["key"], _told(line["measured"])): line["on"] for line in _lines(file)}
    lines = []
    for name, key, found in measured:
        runs = [[value, sum(1 for _ in same)] for value, same in groupby(found)]
        on = before.get((key, _told(runs)), _here())
        lines.append(_told({"name": name, "on": on, "key": key, "measured": runs}) + "\n")
    folder.mkdir(exist_ok=True)
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _lines(file: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _each(runs: Iterable[tuple[Any, int]]) -> Iterable[Any]:
    return chain.from_iterable(repeat(value, times) for value, times in runs)


def _told(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


def _here() -> str:
    day, machine = datetime.datetime.now(datetime.UTC).date(), f"{platform.system()} {platform.machine()}"
    return f"{day}: {os.cpu_count()} cores, {machine}, Python {platform.python_version()}"
