"""`lab load URL …`: flags made from the fields of `Load`, a table for people, one line of JSON for programs."""

import argparse
import os
import sys
from pathlib import Path

from lab_support.api_key import ApiKeyError, find_api_keys
from lab_support.command_line import run_command
from lab_support.flags import add_flags, choices_of
from lab_support.instruments.load import report
from lab_support.instruments.load.generator import STOPPED, NoServer, measure
from lab_support.instruments.load.plan import Load
from lab_support.instruments.load.report import Report
from lab_support.instruments.load.workload import WorkloadError


def add_load_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the URL and one flag for each field of `Load`."""
    parser.add_argument("url", metavar="URL", help="http://127.0.0.1:PORT of a server on this machine")
    add_flags(parser, Load)
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the report there as JSON; without a terminal it is the last line of the output, too",
    )
    parser.add_argument(
        "--progress-fd",
        type=int,
        metavar="N",
        default=-1,
        help="descriptor for lines of JSON, five a second, from which a picture can be drawn",
    )


def load_from_flags(arguments: argparse.Namespace) -> Load:
    """The `Load` that the parsed flags and the environment's key describe. Raises `WorkloadError`."""
    choices = choices_of(arguments, Load)
    given = [] if choices["api_key"] is None else [choices["api_key"]]
    try:
        return Load(**choices | {"api_key": next(iter(find_api_keys(given, None, os.environ)), None)})
    except ApiKeyError as error:
        raise WorkloadError(str(error)) from error


def run_load_command(arguments: argparse.Namespace) -> int:
    """`lab load`: a table for people; then one JSON line for programs, unless stdout is a terminal. The exit code.

    0: every request was answered (or hung up on purpose); 1: some failed, or nobody listens there; 2: the flags
    make no sense; 130: Ctrl-C ended it, and the report covers the requests before that.
    """
    draw = sys.stderr.isatty()
    try:
        load = load_from_flags(arguments)
        _demand_open(arguments.progress_fd)
        result = measure(load, progress=draw, progress_fd=arguments.progress_fd, as_command=True)
    except (WorkloadError, OSError) as error:
        print(f"lab load: {error}", file=sys.stderr)
        return 2
    except NoServer as error:
        print(f"lab load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab load: stopped by Ctrl-C; nothing to report", file=sys.stderr)
        return 130
    return max(_print_report(result, arguments.json), _exit_code(result))


def _demand_open(progress_fd: int) -> None:
    try:
        if progress_fd >= 0:
            os.fstat(progress_fd)
    except OSError as error:
        raise WorkloadError(f"--progress-fd: got {progress_fd}, expected a descriptor that is open") from error


def _print_report(result: Report, file: Path | None) -> int:
    """The exit code: 1 if `file` can't be written."""
    print(report.table(result))
    line = report.to_json(result)
    if not sys.stdout.isatty():  # thousands of characters would push the table off the screen
        print(line)
    try:
        if file:
            file.write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        print(f"lab load: --json {file}: {error.strerror}; the report was not written there", file=sys.stderr)
        return 1
    return 0


def _exit_code(result: Report) -> int:
    if STOPPED in result.description:
        return 130
    return 1 if result.errors else 0


def main() -> int:
    """`python -m lab_support.instruments.load.command URL …`, the same as `lab load URL …`."""
    parser = argparse.ArgumentParser(prog="lab load", description="ask a server on this machine and measure it")
    add_load_flags(parser)
    return run_command(lambda: run_load_command(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
