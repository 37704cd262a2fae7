"""`lab.drive`: a load on a live server, in a process of its own; one inside a kernel would measure the kernel."""

import os
import sys
from typing import IO, Any

from IPython import get_ipython
from IPython.display import DisplayHandle, display

from lab_support.flags import words_for
from lab_support.instruments.load import report
from lab_support.instruments.load.plan import Load
from lab_support.instruments.load.progress import read_progress
from lab_support.instruments.load.report import Report
from lab_support.notebook.cells.supervised import SupervisedProcess
from lab_support.notebook.page.record import in_batch
from lab_support.notebook.servers.key_of_its_own import in_environment
from lab_support.notebook.servers.live_load import LiveLoad
from lab_support.notebook.servers.live_server import Server

_PATIENCE = 10.0  # seconds allowed from a load's last line of progress to its report


class LoadFailed(RuntimeError):
    """`lab load` ended without a report. The text is its output."""


def drive(server: Server, *, brief: bool = False, live: bool = True, **choices: Any) -> Report:
    """Run `lab load` against `server` in a process of its own and wait for its report.

    server: anything that has a `url` and an `api_key` will do.
    brief: show two lines of the report, and its errors, instead of its table. live: show a picture while it runs; its
    last frame stays, and batch runs show only that.
    choices: the command's flags with underscores, such as `clients=8, requests=100, output_tokens="4-64"`. It sends the
    server's key, or the one that `api_key` gives.
    Raises `LoadFailed` if `lab load` refuses. The load ends with the kernel, and at an interrupt of the cell.
    """
    key = choices.pop("api_key", server.api_key)
    words = words_for(choices, Load)
    told, telling = os.pipe()
    command = [sys.executable, "-m", "lab_support", "load", server.url, *words, "--progress-fd", str(telling)]
    said = ", ".join(f"{name} {value}" for name, value in choices.items()) or "a load"
    picture = LiveLoad(said, stand_in=getattr(server, "stand_in", ""))
    running = SupervisedProcess(command, grace=1.0, ready_fd=telling, environment=in_environment(key))
    with open(told, encoding="utf-8") as lines, running:
        _follow(lines, picture, live)
        running.wait(_PATIENCE)
        *people, program = running.output.splitlines() or [""]
        errors = running.errors
    running.close()
    if not program.startswith("{"):
        raise LoadFailed(errors.strip())
    result = report.from_json(program)
    _show_words("\n".join(people[: 2 + len(result.errors)] if brief else people))
    return result


def _follow(lines: IO[str], picture: LiveLoad, live: bool) -> None:
    """Show each frame until the load's lines end, which is when the load does."""
    place: DisplayHandle | None = None
    batch = in_batch()
    for progress in read_progress(lines):
        picture.add(progress)
        if live and not batch:
            place = _show_frame(picture, place)
    if live and batch and picture.seen:
        _show_frame(picture, None)


def _show_frame(picture: LiveLoad, place: DisplayHandle | None) -> DisplayHandle | None:
    """Show the frame in this cell's output, in place of the last one; return its place. Outside a notebook: nothing."""
    if get_ipython() is None:
        return None
    data, metadata = picture._repr_mimebundle_()
    if place is None:
        return display(data, metadata=metadata, raw=True, display_id=True)
    place.update(data, metadata=metadata, raw=True)
    return place


def _show_words(text: str) -> None:
    if get_ipython() is not None:
        display({"text/plain": text}, raw=True)
