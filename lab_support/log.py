"""One look for every process's log: time, title, pid, level, text, on stderr."""

import logging
import os


def set_up_log(level: str, name: str) -> None:
    """Called once in each process of a server, in its main."""
    # What no line of ours shows is not looked up: a third of a line's cost (Python's logging documentation).
    logging._srcfile = None  # type: ignore[attr-defined]
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s lab:{name} {os.getpid()} %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
