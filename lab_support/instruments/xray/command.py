"""X-ray of a server: its processes, the kernel objects that they share, and by which descriptors. `lab xray PID`.

This file is the command. `read.py` collects, `graph.py` answers questions, `rows.py` joins what is alike, `text.py`
and `svg.py` show it. It works on any process tree of the same user, and on all as root. It reads /proc, asks
sock_diag and kcmp, and changes nothing. Linux only.
"""

import argparse
import sys
from pathlib import Path

from lab_support.instruments.proc import NotLinux
from lab_support.instruments.xray.graph import from_json
from lab_support.instruments.xray.read import NoSuchProcess, take_xray
from lab_support.instruments.xray.svg import svg
from lab_support.instruments.xray.text import difference_text, text


def add_xray_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `lab xray`."""
    parser.description = "Show a process, all its descendants, and the kernel objects that they share."
    parser.add_argument("pid", type=int, help="the first process: a launcher, a postmaster, a gunicorn master")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="also write the picture there")
    parser.add_argument("--json", action="store_true", help="print the graph as one line of JSON, for --compare")
    parser.add_argument("--compare", metavar="FILE", type=Path, help="an earlier --json: show what has changed since")


def run_xray_command(arguments: argparse.Namespace) -> int:
    """Print the X-ray, or the difference to an earlier one. Returns the exit code. Runs in `lab xray`'s process."""
    try:
        before = from_json(arguments.compare.read_text()) if arguments.compare else None
        graph = take_xray(arguments.pid)
        if arguments.svg:
            arguments.svg.write_text(svg(graph, before), encoding="utf-8")
    except (NoSuchProcess, NotLinux, ValueError, OSError) as error:
        print(f"lab xray: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(graph.to_json())
    else:
        print(difference_text(before, graph) if before else text(graph), end="")
    return 0
