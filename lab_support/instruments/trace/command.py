"""`lab trace DIR [REQUEST]`: a server's start and its requests as a table, one request event by event, as a picture, or
for a trace viewer."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab_support.instruments.foreign_text import visible
from lab_support.instruments.trace.chrome import chrome_json
from lab_support.instruments.trace.read import Run, TraceError, read_run
from lab_support.instruments.trace.requests import Request, requests_of
from lab_support.instruments.trace.svg import request_svg, start_svg
from lab_support.instruments.trace.text import overview, request_text
from lab_support.plural import counted


def add_trace_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `lab trace`."""
    parser.description = "Show what `lab serve --trace-dir DIR` has written."
    parser.add_argument("directory", metavar="DIR", type=Path, help="the folder of --trace-dir")
    parser.add_argument(
        "request",
        metavar="REQUEST",
        nargs="?",
        help="one request: its x-request-id, the id in its answer, its client's trace id, or the beginning of one",
    )
    parser.add_argument("--run", metavar="RUN", help="another run than the latest")
    parser.add_argument("--all", action="store_true", help="show every request, and every token of a request")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="also draw the start, or the request, there")
    parser.add_argument(
        "--chrome", metavar="FILE", type=Path, help="also write it there for ui.perfetto.dev and chrome://tracing"
    )


def run_trace_command(arguments: argparse.Namespace) -> int:
    """The exit code: 0; 1 if there is nothing to show, or a file can't be written."""
    try:
        run = read_run(arguments.directory, arguments.run)
        requests, strays = requests_of(run)
        chosen = None if arguments.request is None else find(requests, arguments.request)
        shown = request_text(chosen, arguments.all) if chosen else overview(run, requests, arguments.all)
        _write(arguments, run, [chosen] if chosen else requests, chosen)
    except TraceError as error:
        print(f"lab trace: {visible(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lab trace: {error.filename}: {error.strerror}; name a file that can be written", file=sys.stderr)
        return 1
    print(shown, end="")
    for note in _notes(run, strays):
        print(f"note: {visible(note)}")
    return 0


def find(requests: Sequence[Request], name: str) -> Request:
    """The request with this id, or whose id begins with it. Raises `TraceError` unless it is exactly one."""
    bare = name.removeprefix("chatcmpl-").removeprefix("cmpl-")
    exact = [each for each in requests if bare in (each.id, each.received.trace_id)]
    found = exact or [each for each in requests if each.id.startswith(bare) or each.received.trace_id.startswith(bare)]
    if len(found) == 1 and bare:
        return found[0]
    if not found:
        raise TraceError(f"got the request {name!r}, expected one of {len(requests)}; leave it out to see them")
    ids = ", ".join(each.id for each in found[:5])
    raise TraceError(f"got {name!r}, which is the beginning of {counted(len(found), 'request')}, such as {ids}")


def _write(arguments: argparse.Namespace, run: Run, requests: Sequence[Request], chosen: Request | None) -> None:
    if arguments.svg:
        arguments.svg.write_text(request_svg(chosen) if chosen else start_svg(run), encoding="utf-8")
    if arguments.chrome:
        arguments.chrome.write_text(chrome_json(run, requests), encoding="utf-8")


def _notes(run: Run, strays: int) -> list[str]:
    notes = list(run.notes)
    if strays:
        notes.append(f"{counted(strays, 'event')} of requests whose beginning is not in the trace.")
    if run.others:
        notes.append(f"{counted(len(run.others), 'other run')} here: {', '.join(run.others)}; --run shows one.")
    return notes
