"""A parser of server-sent events by WHATWG's HTML standard: bytes in as they arrive, whole events out.

A line may end in LF, CR or CRLF; a space after the colon, comments, `event:` and `id:` lines and several `data:` lines
in one event are all allowed, and servers differ in each of these. One read may bring several events, or a part of one.
"""

from collections.abc import Iterator

LONGEST_EVENT = 1 << 20  # bytes kept of an event whose end has not arrived

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventReader:
    """The part of one stream that has arrived and is not a whole event yet."""

    __slots__ = ("_after_cr", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The type and data of each event that `piece` ends. Raises ValueError for an event without an end."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._rest:
            piece = self._rest + piece
        start = 0
        while (end := piece.find(b"\n\n", start)) >= 0:
            text = piece[start:end]
            if text.startswith(b"data: ") and b"\n" not in text:  # most servers write all events like this
                yield b"", text[6:]
            else:
                yield from _events(text)
            start = end + 2
        self._rest = piece[start:]
        if len(self._rest) > LONGEST_EVENT:
            raise ValueError(f"got {len(self._rest)} bytes of one event, expected an empty line at its end")

    def end(self) -> Iterator[tuple[bytes, bytes]]:
        """The event that the end of the stream cut off, if any. A browser drops it, but its tokens did arrive."""
        rest, self._rest = self._rest, b""
        return _events(rest.strip(b"\n"))


def _events(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """One event; none if it has no data."""
    kind, data = b"", []
    for line in text.removeprefix(_BYTE_ORDER_MARK).split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    if data:
        yield kind, b"\n".join(data)
