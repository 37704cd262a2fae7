"""The end of a command that is interrupted by its reader, by Ctrl-C or by a full disk. Not for `lab serve`."""

import errno
import os
import signal
import sys
from collections.abc import Callable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def run_command(command: Callable[[], int]) -> int:
    """Run `command` and flush its output; returns its exit code, or the one that a shell gives for a signal.

    `lab doctor | head -1` ends without a message, like other programs whose reader closes the pipe. Python ignores
    SIGPIPE, which is right for sockets, so the error of the write takes its place.
    """
    try:
        return _flushed(command)
    except BrokenPipeError:
        _drop_what_is_left()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_ROOM:
            raise
        _drop_what_is_left()
        print(
            f"lab: stdout: got {error.strerror}, so not everything was printed; make room and try again",
            file=sys.stderr,
        )
        return 1


def _flushed(command: Callable[[], int]) -> int:
    try:
        return command()
    finally:
        if sys.stdout is not None:  # None if stdout was closed before the start
            sys.stdout.flush()


def _drop_what_is_left() -> None:
    """Otherwise Python tries to write it again at exit, and prints an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
