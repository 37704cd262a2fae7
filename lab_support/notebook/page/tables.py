"""Dataclasses as a table: HTML in a notebook, text elsewhere. It measures nothing."""

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab_support.notebook.page.gate import takes_prediction
from lab_support.notebook.page.plain import plain
from lab_support.notebook.page.record import STABLE
from lab_support.notebook.page.role_view import RoleView

_HEADS = {
    "role": "process",
    "title": "title in ps",
    "resident_mb": "resident MB",
    "proportional_mb": "proportional MB",
    "private_mb": "private MB",
    "maps_torch": "libtorch mapped",
    "socket_numbers": "descriptor of the listening socket",
    "socket_inode": "kernel object (inode)",
}


@dataclass(frozen=True, slots=True)
class Table:
    """The columns' names, and rows of text with one cell for each."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def with_note(self, words: str) -> "Table":
        """The same table with these words below it, after those that it has."""
        return replace(self, note=" ".join(filter(None, [self.note, words])))

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = (self.columns, *self.rows)
        text = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        return f"{text}\n{self.note}" if self.note else text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = ' style="text-align:left"'
        head = "".join(f"<th{style}>{html.escape(column)}</th>" for column in self.columns)
        rows = ("".join(f"<td{style}>{html.escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


@takes_prediction
def table(views: Sequence[RoleView], *columns: str) -> Table:
    """The named fields of `views`, one row each. Raises `AttributeError` that names a missing field."""
    labels = pid_labels([view.pid for view in views])
    rows = tuple(tuple(_cell(getattr(view, column), column, labels) for column in columns) for view in views)
    return Table(tuple(_HEADS.get(column, column) for column in columns), rows)


def pid_labels(pids: Sequence[int]) -> dict[int, str]:
    """The label of each pid: the pid itself; in a published notebook P0, P1, … by ascending pid, as in an X-ray."""
    return {pid: f"P{index}" if os.environ.get(STABLE) else str(pid) for index, pid in enumerate(sorted(pids))}


def _cell(value: object, column: str, labels: dict[int, str]) -> str:
    if column == "pid":
        return labels[value]  # type: ignore[index]
    if column == "socket_inode":
        return str(value) if value else "–"
    if value in ("", (), [], {}):
        return "–"
    return plain(value, digits=1)
