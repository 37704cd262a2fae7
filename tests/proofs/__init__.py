"""The promises of the README in full counts: each module measures one, `python -m tests.prove` runs all as a table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One promise: what was asked, what was measured, and whether that meets it."""

    asked: str
    measured: str
    met: bool
