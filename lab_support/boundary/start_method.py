"""The parent's memory: how a child process is made, and so what it starts with.

The only place that makes a process. A child is named by its module, so the launcher never imports what only the
child needs: it stays small, and there is nothing heavy in it that a fork could copy. API servers always start by
spawn, as vLLM's do; engine cores by what `start_rule.py` makes of `--start-method`.
"""

import importlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from setproctitle import setproctitle

from lab_support.boundary.lifeline import ReadEnd, hold
from lab_support.boundary.runtime_directory import remove

TITLE_PREFIX = "lab:"
RETIRING = "-retiring"
"""Behind the name of an API server whose place another has taken, in its title and in the launcher."""


@dataclass(frozen=True)
class Birth:
    """What every child needs to know before it knows anything else.

    name: `api-0`, `engine-0`, `coordinator`: the process title behind `lab:`.
    directory: the runtime directory, which a child that outlives the launcher removes.
    """

    name: str
    module: str
    directory: str
    read_end: ReadEnd


def start(
    method: str, birth: Birth, arguments: tuple[object, ...], close_after_fork: Callable[[], None]
) -> BaseProcess:
    """Start a child that runs `main(*arguments)` of `birth.module`. Called by the launcher's main thread.

    Under spawn and forkserver only the descriptors within `arguments` arrive. Under fork all of them do, so the
    child first calls `close_after_fork`, which closes what belongs to the launcher or to other children.
    """
    context = multiprocessing.get_context(method)
    close = close_after_fork if method == "fork" else None
    process = context.Process(  # type: ignore[attr-defined]
        target=_run, name=birth.name, args=(birth, arguments, close), daemon=False
    )
    process.start()
    return process


def _run(birth: Birth, arguments: tuple[object, ...], close_after_fork: Callable[[], None] | None) -> None:
    """First code of ours in the child."""
    if close_after_fork:
        close_after_fork()
    _close_all_on_exec()
    hold(birth.read_end, clean_up=lambda: remove(birth.directory))
    # Ctrl-C reaches the whole foreground process group. Only the launcher acts on it, and then asks the others in
    # order by SIGTERM; one that comes before a child is ready to hear it ends the child at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    setproctitle(TITLE_PREFIX + birth.name)
    code = importlib.import_module(birth.module).main(birth.name, *arguments)
    _exit(code)


def _close_all_on_exec() -> None:
    """What spawn passed on had to be inheritable for that; a program that is started from here must not get it."""
    listing = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for number in map(int, os.listdir(listing)):
        if number > 2:
            with suppress(OSError):  # the listing's own
                os.set_inheritable(number, False)


def _exit(code: int) -> None:
    """End without the interpreter's farewell, which for torch takes longer than all the rest of a stop."""
    logging.shutdown()
    os._exit(code)


def stop_python_processes() -> None:
    """End and wait for what Python itself started beside our children: its resource tracker and its fork server.

    Both end by themselves when the last of our processes has gone, but nobody would have waited for them. These are
    private names of the standard library, the same from Python 3.11 to 3.13.
    """
    from multiprocessing import forkserver, resource_tracker

    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
