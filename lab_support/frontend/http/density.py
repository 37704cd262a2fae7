"""Counts the values in a body without decoding it, because many values make decoding slow and the result large.

Decoding 4 MB of text takes milliseconds. 4 MB of `[],[],…` are a million lists: they block the event loop for a second,
even from a thread, because the decoder holds the interpreter's lock from beginning to end.
"""

from lab_support.frontend.http.errors import bad_request
from lab_support.frontend.http.memory import CONTAINER, STRING, TOKEN_ID

MOST_CONTAINERS = 32_768  # lists, objects and fields of objects
MOST_ELEMENTS = 524_288  # all values together; numbers in lists are the bulk of them
MOST_STRINGS = 131_072

_SMALL = 1024  # bytes; the values of a smaller body are not worth counting
_NO_MARKS = bytes(set(range(256)) - set(b'[{:,"'))


def check_density(body: bytes) -> None:
    """Raises `ApiError` (400) if decoding the body would block the event loop for long."""
    if len(body) <= MOST_CONTAINERS or _few(body) or _few(outside := _outside_strings(body)):
        return
    containers, elements, strings = _counts(outside)
    raise bad_request(
        f"the body holds too many values: got {elements} elements, {containers} lists, objects and fields, and "
        f"{strings} strings, allowed are {MOST_ELEMENTS}, {MOST_CONTAINERS} and {MOST_STRINGS}; send several requests",
        code="too_many_values",
    )


def weight(body: bytes) -> int:
    """Most bytes that a body takes once it is decoded: one wide character in a text widens all of its characters."""
    if len(body) <= _SMALL:
        return len(body) * CONTAINER // 2  # as if it were `[[[…`: a list takes at least two bytes
    containers, elements, strings = _counts(body)
    wide = 1 if body.isascii() and b"\\u" not in body else 4
    values = min(containers, MOST_CONTAINERS) * CONTAINER + min(elements, MOST_ELEMENTS) * TOKEN_ID
    return wide * len(body) + values + min(strings, MOST_STRINGS) * STRING


def _few(text: bytes) -> bool:
    containers, elements, strings = _counts(text)
    return containers <= MOST_CONTAINERS and elements <= MOST_ELEMENTS and strings <= MOST_STRINGS


def _counts(text: bytes) -> tuple[int, int, int]:
    """Containers, elements, strings. All other bytes are removed first, as `bytes.count` is 10x slower on many hits."""
    marks = text.translate(None, _NO_MARKS)
    elements, quotes = len(marks.translate(None, b'[{:"')), len(marks.translate(None, b"[{:,"))
    return len(marks) - elements - quotes, elements, quotes // 2


def _outside_strings(body: bytes) -> bytes:
    """The body with its strings emptied. A body with far too many strings keeps them."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 2 * MOST_STRINGS:
        return bare
    return b'""'.join(bare.split(b'"')[::2])
