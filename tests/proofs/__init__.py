"""The promises of the README in full counts: each module measures one, `python -m tests.prove` runs all as a table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One promise: the requirement, the measurement, and whether it is met."""

    asked: str
    measured: str
    met: bool
