"""`lab load URL …`: flags made from the fields of `Load`, a table for people, one line of JSON for programs."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from lab_support.command_line import run_command
from lab_support.config import as_flag
from lab_support.instruments.load import report
from lab_support.instruments.load.generator import STOPPED, NoServer, measure
from lab_support.instruments.load.plan import Load
from lab_support.instruments.load.report import Report
from lab_support.instruments.load.workload import LengthRange, WorkloadError, length_range


def add_load_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the URL and one flag for each field of `Load`."""
    parser.add_argument("url", metavar="URL", help="http://127.0.0.1:PORT of a server on this machine")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for choice in dataclasses.fields(Load)[1:]:
        details = choice.metadata
        group = groups.setdefault(details["group"], parser.add_argument_group(details["group"]))
        text = details["help"] + ("" if choice.default in (None, True, False) else f" (default: {choice.default})")
        if isinstance(choice.default, bool):
            group.add_argument(
                as_flag(choice.name), action=argparse.BooleanOptionalAction, default=choice.default, help=text
            )
        else:
            group.add_argument(
                as_flag(choice.name), type=_parser(details["type"]), default=choice.default, help=text, metavar="…"
            )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the report there as well, as JSON; it is the last line, too, where no terminal reads",
    )
    parser.add_argument(
        "--progress-fd", type=int, metavar="N", default=-1, help="write a JSON line there now and then, for a picture"
    )


def _parser(kind: type) -> Any:
    """What turns a flag's text into `kind`, with errors as argparse wants to hear them."""
    if kind is not LengthRange:
        return kind

    def parse(text: str) -> LengthRange:
        try:
            return length_range(text)
        except WorkloadError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def load_from_flags(arguments: argparse.Namespace) -> Load:
    """The `Load` that the parsed flags describe. Raises `WorkloadError`."""
    return Load(**{choice.name: getattr(arguments, choice.name) for choice in dataclasses.fields(Load)})


def run_load_command(arguments: argparse.Namespace) -> int:
    """`lab load`: a table for people; then one JSON line for programs, unless a terminal reads it.

    0: every request got its answer (or was meant to hang up); 1: some did not, or nobody listens there; 2: the flags
    make no sense; 130: Ctrl-C ended it, and the report says how far it came.
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
    """The exit code: 1 where `file` can't be written."""
    print(report.table(result))
    line = report.to_json(result)
    if not sys.stdout.isatty():  # thousands of characters: on a screen they would push the table away
        print(line)
    try:
        if file:
            file.write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        print(f"lab load: --json {file}: {error.strerror}; the report was not kept there", file=sys.stderr)
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
