"""Proofs that can be stopped at any time, by Ctrl-C, SIGTERM or SIGKILL, and go on where they were."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.proofs import Row
from tests.proofs.kept.measurements import FOLDER, NONE, InUse, Kept, kept_in

STOPPED = 130
"""The exit code after Ctrl-C or SIGTERM, as a shell has it."""


@dataclass(frozen=True)
class Proof:
    """Measurements of one kind, and the rows that they give.

    key: of what they depend on. measure: makes the measurement of that index, as data for JSON. meanwhile: a context
    around those that are not made yet.
    """

    name: str
    key: str
    times: int
    measure: Callable[[int], Any]
    rows: Callable[[list[Any]], Iterable[Row]]
    meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext


def measured(proofs: Sequence[Proof], kept: Kept) -> Iterator[Row]:
    """The rows of all proofs. Those that are not kept are measured first, and each is kept at once."""
    asked = sum(proof.times for proof in proofs)
    there = sum(min(proof.times, len(kept.of(proof.key))) for proof in proofs)
    print(f"{there} of {asked} measurements are there from before", file=sys.stderr, flush=True)
    for proof in proofs:
        yield from proof.rows(_all_of(proof, kept))


def _all_of(proof: Proof, kept: Kept) -> list[Any]:
    first = len(kept.of(proof.key))
    if first < proof.times:
        with proof.meanwhile():
            for index in range(first, proof.times):
                kept.add(proof.key, proof.measure(index))
        print(f"  {proof.name}: measured", file=sys.stderr, flush=True)
    return kept.of(proof.key)[: proof.times]


def stoppable() -> None:
    """From now on SIGTERM is an interrupt, as Ctrl-C is: what runs is ended, and what is measured is kept."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))


def run(
    number: str,
    proofs: Sequence[Proof],
    *,
    again: bool = False,
    before: Mapping[str, list[Any]] = NONE,
    at_end: Callable[[Kept], None] = lambda kept: None,
    folder: Path = FOLDER,
) -> int:
    """Measure, and print one table. 0 if all is met, 1 if not, 2 if another process measures, 130 after a stop.

    before: measurements that need not be made again. at_end: is called with all that are there, after a stop as well.
    """
    stoppable()
    rows: list[Row] = []
    try:
        with kept_in(folder / f"{number}.jsonl", again=again, before=before) as kept:
            try:
                for row in measured(proofs, kept):
                    rows.append(row)
            finally:
                at_end(kept)
    except InUse as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _print_table(rows)
        print("Stopped before the end; the same command goes on from here.")
        return STOPPED
    _print_table(rows)
    return 0 if all(row.met for row in rows) else 1


def _print_table(rows: Sequence[Row]) -> None:
    print("| asked | measured | met |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {row.asked} | {row.measured} | {'yes' if row.met else 'NO'} |")
    print(f"\n{sum(row.met for row in rows)} of {len(rows)} met")
