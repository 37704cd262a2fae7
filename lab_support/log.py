"""One log format for all processes: time, title, pid, level, text, on stderr. Writing never blocks a process.

stderr may be a pipe that nobody reads, a terminal that Ctrl-S has stopped, or a full disk. A blocking write(2) to it
can block the process indefinitely, in the middle of a request. So writes to stdout and stderr don't block: lines that
do not fit are dropped and counted, and the count is logged once there is room again.

O_NONBLOCK belongs to the open file description, which we share with our parent process, for example a shell. So a
pipe or a terminal is opened a second time, through /proc/self/fd, and that description is ours alone.
"""

import errno
import io
import logging
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable

LONGEST = 1 << 16  # most bytes of one write, and so of the rest that is kept when only its beginning was written

NOBODY = "nobody reads them"

Way = Callable[[bytes], int]


def set_up_log(level: str, name: str) -> None:
    """Called once in each process of a server, in its main."""
    # Skip lookups that our format doesn't show, a third of a line's cost (Python's logging documentation).
    logging._srcfile = None  # type: ignore[attr-defined]
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s lab:{name} {os.getpid()} %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )


def never_wait() -> None:
    """From now on no output of this process to stdout or stderr waits for a reader, or fails without one.

    Called first in each process of a server, so that tracebacks and warnings are covered, too. A closed descriptor is
    opened on /dev/null; otherwise the next socket would get its number, and then our output.
    """
    _open_what_is_closed()
    sys.stdout = NeverWaiting(Outlet(1), _encoding(sys.stdout))  # type: ignore[assignment]
    sys.stderr = NeverWaiting(Outlet(2), _encoding(sys.stderr))  # type: ignore[assignment]


def _open_what_is_closed() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # open(2) takes the lowest free number


def _encoding(stream: object) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


class Outlet:
    """Writes to a descriptor without blocking, from any thread. It never raises an error."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._send = _way_to(descriptor)
        self._rest = b""  # the rest of a write that was cut; it goes out before anything else
        self._dropped = 0  # lines
        self._trouble = ""
        self._lock = threading.RLock()  # a signal handler may log while its own thread is logging

    def write(self, data: bytes) -> str:
        """Write whole lines. Returns the reason if some were not written, else ""."""
        data = data if len(data) <= LONGEST else data[: LONGEST - 2] + b"~\n"
        with self._lock:
            owed = self._rest or self._dropped
            sent = 0 if owed and not self._catch_up() else self._push(data)
            if sent:
                self._rest = data[sent:]
            else:
                self._dropped += data.count(b"\n") or 1
            return "" if sent == len(data) else self._trouble or NOBODY

    def _catch_up(self) -> bool:
        """Write what is pending: the rest of a line, then the number of dropped lines. False: some is still pending."""
        if self._rest:
            self._rest = self._rest[self._push(self._rest) :]
        if self._dropped and not self._rest:
            note = self._note()
            if sent := self._push(note):
                self._rest, self._dropped = note[sent:], 0
        return not (self._rest or self._dropped)

    def _note(self) -> bytes:
        lines = f"{self._dropped} line{'s' * (self._dropped > 1)}"
        return f"… {lines} of the log of process {os.getpid()} dropped, because {self._trouble}\n".encode()

    def _push(self, data: bytes) -> int:
        """Returns the number of bytes written."""
        try:
            return self._send(data)
        except BlockingIOError:
            self._trouble = NOBODY
        except OSError as error:
            self._trouble = f"writing failed ({error.strerror})"
        return 0


class NeverWaiting(io.TextIOBase):
    """Replaces Python's own stream for `print`, `logging` and tracebacks: whole lines, one write each."""

    errors = "backslashreplace"

    def __init__(self, outlet: Outlet, encoding: str) -> None:
        self._outlet = outlet
        self._encoding = encoding
        self._begun = ""  # a line without its end yet

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._outlet.descriptor

    def isatty(self) -> bool:
        return os.isatty(self._outlet.descriptor)

    def write(self, text: str) -> int:
        lines, end, begun = text.rpartition("\n")
        if end:
            self._outlet.write((self._begun + lines + end).encode(self._encoding, self.errors))
            self._begun = begun
        else:
            self._begun += begun
            if len(self._begun) > LONGEST:
                self.flush()
        return len(text)

    def flush(self) -> None:
        if self._begun:
            self._outlet.write(self._begun.encode(self._encoding, self.errors))
            self._begun = ""


# ---- ways to write without waiting -----------------------------------------------------------------------------------


def _way_to(descriptor: int) -> Way:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return _nowhere
    if stat.S_ISSOCK(mode):
        return _by_send(descriptor)
    may_wait = (stat.S_ISFIFO(mode) or os.isatty(descriptor)) and os.get_blocking(descriptor)
    if may_wait and not _open_again(descriptor):
        return _where_there_is_room(descriptor)
    return lambda data: os.write(descriptor, data)


def _nowhere(data: bytes) -> int:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _open_again(descriptor: int) -> bool:
    """Give the descriptor a non-blocking open file description of our own. False: that is not possible."""
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY)
    except OSError:  # no /proc; a terminal of another user (su); a FIFO without a reader
        return False
    os.dup2(own, descriptor, inheritable=descriptor <= 2)
    os.close(own)
    return True


def _by_send(descriptor: int) -> Way:
    """A socket can't be opened again, but send(2) can be told not to block."""
    if not hasattr(socket, "MSG_DONTWAIT"):
        return _where_there_is_room(descriptor)

    def send(data: bytes) -> int:
        passing = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=descriptor)  # for a socket of any kind
        try:
            return passing.send(data, socket.MSG_DONTWAIT)
        finally:
            passing.detach()

    return send


def _where_there_is_room(descriptor: int) -> Way:
    """poll(2) tells that a pipe has room for PIPE_BUF bytes. If another process takes it first, we block after all."""
    room = select.poll()
    room.register(descriptor, select.POLLOUT)

    def send(data: bytes) -> int:
        sent = 0
        while sent < len(data) and room.poll(0):
            sent += os.write(descriptor, data[sent : sent + select.PIPE_BUF])
        if not sent:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return sent

    return send
