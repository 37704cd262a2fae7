"""Shared by all experiments' programs: arguments, samples, and cases in fresh processes.

A sample is one JSON line, written as soon as it is known, so that a later hang or crash loses nothing. Any process
of an experiment may write one: a forked child, a spawned one, a case. Standard library only.
"""

import argparse
import dataclasses
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from lab_support.instruments.waiting import waiting_threads

SAMPLES, CASE, STARTED = "LAB_SAMPLES", "LAB_CASE", "LAB_STARTED"
MIB = 1 << 20
LONGEST_TEXT = 8000
ABORT_SECONDS = 0.5
"""Seconds for writing stacks, between SIGABRT and SIGKILL."""


def start(description: str, words: Sequence[str] | None = None, **extra: Any) -> argparse.Namespace:
    """Parse an experiment's arguments, and have the stacks of all threads written if it crashes.

    --device cpu only rehearses the mechanics: it tells nothing about a GPU and is never recorded.
    """
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=60.0, help="end by yourself within so many seconds")
    parser.add_argument("--case", default="", help="run this case alone")
    for name, default in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args(words)


def emit(what: str, **fields: Any) -> None:
    """Write one sample. Its `at`: seconds since the experiment started, on a clock that all processes share."""
    case = {"case": os.environ[CASE]} if CASE in os.environ else {}
    at = time.monotonic() - float(os.environ.get(STARTED, "0"))
    line = json.dumps({"what": what, **case, **fields, "at": round(at, 4)}, default=_plain, ensure_ascii=False) + "\n"
    if SAMPLES not in os.environ:
        print(line, end="", flush=True)
        return
    descriptor = os.open(os.environ[SAMPLES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())  # one write to a file opened for appending, so lines never mix
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def attempt(action: Callable[[], Any]) -> dict[str, Any]:
    """The result of `action`, or the type and text of its exception; and milliseconds."""
    began = time.perf_counter()
    try:
        outcome: dict[str, Any] = {"ok": True, "value": action()}
    except Exception as error:  # any exception is a result here
        outcome = {"ok": False, "error": _type_name(type(error)), "text": str(error)[:LONGEST_TEXT]}
    return outcome | {"ms": round((time.perf_counter() - began) * 1000, 3)}


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# ---- cases -----------------------------------------------------------------------------------------------------------


def run_cases(
    module: str, cases: dict[str, dict[str, str]], options: argparse.Namespace, seconds: float
) -> dict[str, int | None]:
    """Run each case as a fresh process of `module`, as many at once as there are cores; returns exit codes by case.

    cases: environment variables by case. The end of each is a sample. A case that takes longer than `seconds` is
    examined and killed together with its children; its exit code is None.
    """
    deadline = time.monotonic() + seconds
    waiting, ended = list(cases.items()), dict[str, int | None]()
    at_once = max(2, os.cpu_count() or 1)
    while waiting:
        now, waiting = waiting[:at_once], waiting[at_once:]
        if time.monotonic() < deadline:
            ended |= _run_together(module, dict(now), options, deadline)
        else:
            for case, _ in now:
                emit("not run", case=case, reason="out of time")
    return ended


def exit_code(ended: dict[str, int | None]) -> int:
    """1 if a case ended with an exception of its own; a crash or a hang is evidence, not a failure."""
    return int(any(code == 1 for code in ended.values()))


def _run_together(
    module: str, cases: dict[str, dict[str, str]], options: argparse.Namespace, deadline: float
) -> dict[str, int | None]:
    with ExitStack() as stack:
        running = {}
        for case, environment in cases.items():
            errors = stack.enter_context(TemporaryFile())
            running[case] = _start_case(module, case, environment, options, errors), errors
        return {case: _await_case(case, process, errors, deadline) for case, (process, errors) in running.items()}


def _start_case(
    module: str, case: str, environment: dict[str, str], options: argparse.Namespace, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, "--case", case, "--device", options.device],
        env=os.environ | environment | {CASE: case},
        stdin=subprocess.DEVNULL,
        stderr=errors,
        process_group=0,
    )


def _await_case(case: str, process: subprocess.Popen[bytes], errors: IO[bytes], deadline: float) -> int | None:
    timed_out, waits_for = False, []
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        timed_out, waits_for = True, waiting_threads(process.pid)
        os.killpg(process.pid, signal.SIGABRT)  # faulthandler writes every Python stack
        time.sleep(ABORT_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    code = process.returncode
    emit("case ended", case=case, exit_code=code, timed_out=timed_out, waits_for=waits_for, errors=tail(errors))
    return None if timed_out else code


def tail(opened: IO[bytes]) -> str:
    """The last part of a file that another process wrote."""
    opened.seek(0)
    return opened.read().decode("utf-8", "replace")[-LONGEST_TEXT:]


def open_descriptors(pid: int | str = "self") -> dict[int, str]:
    """The target of each descriptor of `pid`, by number; empty if /proc doesn't tell."""
    found = {}
    folder = Path("/proc") / str(pid) / "fd"
    for name in os.listdir(folder) if folder.is_dir() else []:
        try:
            found[int(name)] = os.readlink(folder / name)
        except OSError:
            continue  # closed meanwhile, such as the listing's own descriptor
    return found
