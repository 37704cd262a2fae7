"""The minutes in the pages for instructors and in README.md: their tables, made again from those of the notebooks."""

import re
from collections.abc import Sequence

from lab_support.notebook.publishing.estimate import Minutes

HEADER = "header, `lab.start`"
"""The first row: the cells before the first heading."""
_TABLE = re.compile(r"^\| section[^\n]*\|\n\| ---[^\n]*\n(?:\|[^\n]*\n)+", re.MULTILINE)

Rows = Sequence[tuple[str, Minutes]]
"""Headings, "" for the cells before the first one, with their minutes."""


def with_minutes(guide: str, rows: Rows, whole: Minutes, *, table: int) -> str:
    """A page for instructors with its table number `table` made again, in the columns that it has.

    table: from 0; the notebook's is the first, its appendix's the second. Raises `LookupError` if it is missing.
    """
    found = list(_TABLE.finditer(guide))
    if len(found) <= table:
        raise LookupError(f"got {len(found)} tables that begin with “| section”, expected at least {table + 1}")
    old = found[table]
    return guide[: old.start()] + _made_again(old[0], rows, whole) + guide[old.end() :]


def _made_again(old: str, rows: Rows, whole: Minutes) -> str:
    head, rule = old.splitlines()[:2]
    columns = [column.strip() for column in head.strip("| ").split("|")][1:]
    lines = [_line(heading or HEADER, minutes, columns) for heading, minutes in rows]
    return "\n".join([head, rule, *lines, _line("together", whole, columns, "**"), ""])


def _line(label: str, minutes: Minutes, columns: Sequence[str], mark: str = "") -> str:
    cells = [label, *(str(minutes.as_metadata[column]) for column in columns)]
    return "| " + " | ".join(f"{mark}{cell}{mark}" for cell in cells) + " |"


def with_minutes_of(readme: str, notebook: str, alone: int) -> str:
    """README.md with the minutes of one notebook, by its file's name, in its row. Raises `LookupError` without one."""
    changed, count = re.subn(
        rf"^(\| \[\w+\]\(notebooks/{re.escape(notebook)}\) \|.*\|) *\d+ *\|$",
        rf"\1 {alone} |",
        readme,
        flags=re.MULTILINE,
    )
    if count != 1:
        raise LookupError(f"got {count} rows of {notebook}, expected one that ends with its minutes")
    return changed
