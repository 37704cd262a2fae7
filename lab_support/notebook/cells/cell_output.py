"""The output of a cell's processes as text: whole lines at once, an unfinished line after a moment.

Runs in the supervisor; standard library only.
"""

import codecs
import time

_HOLD = 0.1
"""Seconds for which an unfinished line waits for its rest, so that lines of several processes are seldom cut."""
_LONG = 1 << 16  # bytes of an unfinished line that wait


class Unfinished:
    """The line that one process is writing on one stream."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character's bytes may arrive separately
        self._waiting = bytearray()
        self._since = 0.0

    def add(self, data: bytes) -> str:
        """Take `data`; return the lines that it ends, "" if none. The time is proportional to `data`."""
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._keep(data)
            return self.piece() if len(self._waiting) > _LONG else ""
        ended = self.piece() + self._decoder.decode(whole + newline)
        self._keep(rest)
        return ended

    def _keep(self, data: bytes) -> None:
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting += data

    @property
    def is_due(self) -> bool:
        return bool(self._waiting) and time.monotonic() >= self._since + _HOLD

    def piece(self, *, last: bool = False) -> str:
        """Take out the unfinished line. last: nothing follows."""
        text = self._decoder.decode(bytes(self._waiting), last)
        self._waiting.clear()
        return text
