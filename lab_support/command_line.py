"""How a command of ours ends when something ends it first: its reader, Ctrl-C, a full disk. Not for `lab serve`."""

import errno
import os
import signal
import sys
from collections.abc import Callable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def run_command(command: Callable[[], int]) -> int:
    """The exit code of `command`, once all that it printed has gone out; as a shell counts it where a signal ends it.

    `lab doctor | head -1` ends without a word, like other programs when their reader has seen enough. Python ignores
    SIGPIPE, which is right for sockets, so the error of the write has to do for it.
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
        print(f"lab: stdout: got {error.strerror}, so not all was printed; give it room and try again", file=sys.stderr)
        return 1


def _flushed(command: Callable[[], int]) -> int:
    try:
        return command()
    finally:
        if sys.stdout is not None:  # it is None where stdout was closed before the start
            sys.stdout.flush()


def _drop_what_is_left() -> None:
    """Else Python tries to write it once more at its exit, and prints that it can't."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
