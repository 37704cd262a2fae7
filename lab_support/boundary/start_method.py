"""The parent's memory: how a child process is made, and so what it starts with.

The only place that makes a process. A child is given as a module's name, so the launcher never imports what only the
child needs: it stays small, and there is nothing heavy in it that a fork could copy. API servers always start by
spawn, as vLLM's do; engine cores by the method that supervision/start_rule.py derives from `--start-method`.
"""

import errno
import importlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from lab_support import own_stack
from lab_support.boundary import after_fork
from lab_support.boundary.lifeline import ExitCode, ReadEnd, end_process, hold
from lab_support.boundary.signals import TO_THE_GROUP, blocked, leave_to_the_launcher
from lab_support.boundary.working_folder import leave_if_gone
from lab_support.log import never_wait
from lab_support.tracing.files import TraceFiles
from lab_support.tracing.trace import Trace, make_trace

TITLE_PREFIX = "lab:"
RETIRING = "-retiring"
"""Appended, in its title and in the launcher, to the name of an API server whose place another has taken."""


@dataclass(frozen=True)
class Birth:
    """Everything that a child needs first, before its own arguments.

    name: `api-0`, `engine-0`, `coordinator`: the process title after `lab:`.
    clean_up: called in a child that outlives the launcher; it is sent there, so it has to be picklable.
    trace: where its events go; None if nowhere. slot: of an API server, otherwise -1. needs: names of modules that are
    imported first, because only some children of this kind need them. stacks: it writes its stack when it is asked.
    """

    name: str
    module: str
    clean_up: Callable[[], None]
    read_end: ReadEnd
    trace: TraceFiles | None = None
    slot: int = -1
    needs: tuple[str, ...] = ()
    stacks: bool = False


def start(
    method: str, birth: Birth, arguments: tuple[object, ...], close_after_fork: Callable[[], None]
) -> BaseProcess:
    """Start a child that runs `main(name, trace, *arguments)` of `birth.module`. Called by the launcher's main thread.

    Under spawn and forkserver the child gets only the descriptors within `arguments`. Under fork it gets all of them:
    it first calls `close_after_fork`, for the launcher's objects, and then closes all others that were not given to it.
    """
    leave_if_gone()
    context = multiprocessing.get_context(method)
    let_go = _let_go_after_fork((birth, arguments), close_after_fork) if method == "fork" else None
    process = context.Process(  # type: ignore[attr-defined]
        target=_run, name=birth.name, args=(birth, arguments, let_go), daemon=False
    )
    with blocked(TO_THE_GROUP):
        resource_tracker.ensure_running()  # first, because it leaves SIGINT and SIGTERM unblocked
        # A forked child has the launcher's handlers until `_run`, so SIGTERM has to stay blocked until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, TO_THE_GROUP | ({signal.SIGTERM} if method == "fork" else set()))
        process.start()
    return process


def told_by(program: Path, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return what it wrote. Called by the launcher before it has children.

    Raises `OSError` if it can't be run here; it is a `TimeoutError` after so many seconds.
    """
    try:
        return subprocess.run([program, *words], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise TimeoutError(errno.ETIMEDOUT, f"it took more than {seconds:g} s") from late


_TIED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which stays set over execve(2)
if os.getppid() != int(sys.argv[1]):
    sys.exit(3)  # the parent ended before the signal was asked for
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_tied(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Start a Python program in a process group of its own; its pid, which is the group's number.

    It gets SIGTERM when the thread that calls this ends, and so when this process ends, however that happens. It has no
    descriptor of ours but 0, 1 and 2. The caller waits for it. words: its command line; the first is its Python's path.
    Raises `OSError`.
    """
    command = [words[0], "-c", _TIED, str(os.getpid()), *words]
    taken = [*TO_THE_GROUP, signal.SIGTERM, signal.SIGCHLD]
    return os.posix_spawn(words[0], command, environment, setpgroup=0, setsigmask=[], setsigdef=taken)


def _let_go_after_fork(given: object, close_objects: Callable[[], None]) -> Callable[[], None]:
    """The function that closes descriptors in a forked child. It leaves those that `Popen` will yet make for it."""
    foreign = after_fork.open_descriptors() - after_fork.descriptors_in(given) - {0, 1, 2}

    def let_go() -> None:
        close_objects()  # first: an object collected later would close its number, which may be another's by then
        after_fork.close(foreign)

    return let_go


def _run(birth: Birth, arguments: tuple[object, ...], let_go: Callable[[], None] | None) -> None:
    """The first code of ours that runs in the child."""
    begun = time.monotonic()
    signal.set_wakeup_fd(-1)
    if let_go:
        let_go()
    leave_to_the_launcher()
    never_wait()
    _close_all_on_exec()
    hold(birth.read_end, clean_up=birth.clean_up)
    setproctitle(TITLE_PREFIX + birth.name)
    if birth.stacks:
        own_stack.write_when_asked()
    trace = make_trace(birth.trace, birth.name, birth.slot)
    trace.milestone("first code", at=begun)
    _end_with(lambda: _main(birth, trace, arguments), lambda: _say_last(trace))


def _main(birth: Birth, trace: Trace, arguments: tuple[object, ...]) -> int:
    for name in birth.needs:
        importlib.import_module(name)
    module = importlib.import_module(birth.module)
    trace.milestone("imports done")
    code: int = module.main(birth.name, trace, *arguments)
    return code


def _say_last(trace: Trace) -> None:
    trace.close()
    logging.shutdown()


def _end_with(main: Callable[[], int], last_act: Callable[[], None]) -> NoReturn:
    """Exit with the code that `main` returns, however it ends, and without the interpreter's shutdown.

    With torch that shutdown takes longer than all the rest of a stop, and it waits for threads that may never end.
    """
    code: object = ExitCode.FAILED
    try:
        code = main()
    except SystemExit as asked:
        code = asked.code
    except BaseException:  # the outermost frame of the process: an error that `main` did not handle
        sys.excepthook(*sys.exc_info())
    finally:
        end_process(code if isinstance(code, int) else ExitCode.FAILED, last_act)


def _close_all_on_exec() -> None:
    """Make all descriptors close on exec: spawn needed those it passed on to be inheritable, but a program that is
    started from here must not get them."""
    for number in after_fork.open_descriptors() - {0, 1, 2}:
        with suppress(OSError):
            os.set_inheritable(number, False)
