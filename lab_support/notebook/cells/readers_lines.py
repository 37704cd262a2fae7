"""Tracebacks of a cell's own processes without the frames of this package. Standard library only."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parents[2])


def show_readers_lines(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An excepthook: print the traceback of `error` with the reader's lines alone, or whole if it has none of them."""
    told = traceback.TracebackException(kind, error, trace)
    theirs = [frame for frame in told.stack if not frame.filename.startswith(_OURS)]
    if theirs:
        told.stack = traceback.StackSummary.from_list(theirs)
    sys.stderr.write("".join(told.format()))  # in one piece: whoever sees a worker's end may kill it while it writes
    sys.stderr.flush()
