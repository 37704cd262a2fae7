"""The run time of a notebook's sections: the build keeps it in tens of seconds, so that a rebuild changes nothing."""

from collections.abc import Mapping
from datetime import datetime

from nbformat import NotebookNode

from lab_support.notebook.publishing.sections import sections

STEP = 10
_TIMING = "execution"


def measured(notebook: NotebookNode) -> dict[str, float]:
    """Seconds by the heading of a section, from the times that nbclient noted in the cells' metadata."""
    return {each.heading: sum(map(_seconds, each.cells)) for each in sections(notebook)}


def _seconds(cell: NotebookNode) -> float:
    times = cell.metadata.get(_TIMING, {})
    moments = [
        datetime.fromisoformat(times[name]) for name in ("iopub.status.busy", "shell.execute_reply") if name in times
    ]
    return (moments[1] - moments[0]).total_seconds() if len(moments) == 2 else 0.0


def kept(before: Mapping[str, int], now: Mapping[str, float]) -> dict[str, int]:
    """Whole tens of seconds; the figure of `before` stays where the new one is within 10 seconds of it. Zeros go."""
    found = {heading: _settled(before.get(heading, 0), seconds) for heading, seconds in now.items()}
    return {heading: seconds for heading, seconds in found.items() if seconds}


def _settled(before: int, now: float) -> int:
    return before if abs(now - before) <= STEP else STEP * round(now / STEP)


def forget_timing(notebook: NotebookNode) -> None:
    """Drop the times themselves, because they differ from run to run."""
    for cell in notebook.cells:
        cell.metadata.pop(_TIMING, None)
