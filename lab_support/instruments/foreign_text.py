"""Text from outside: names of processes, sockets and files in /proc, headers of a server's answer.

The kernel accepts any bytes but NUL in a name: line feeds, terminal escape codes, half a character. So files are read
as bytes and split at line feeds alone, and the text in our dataclasses can be printed, drawn and written as UTF-8.
"""

from pathlib import Path


def read_text(path: Path | str) -> str:
    """A kernel file as text, whatever bytes it holds: bytes that are not UTF-8 become `\\xe9`. Raises `OSError`.

    `Path.read_text` would also turn a carriage return within a name into a line feed.
    """
    with open(path, "rb", buffering=0) as file:
        return file.readall().decode("utf-8", "backslashreplace")


def visible(text: str) -> str:
    """`text` with control characters and lone surrogates escaped: an escape code becomes `\\x1b`, a line feed `\\n`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def visible_bytes(data: bytes) -> str:
    """The same for a name in the kernel's own bytes."""
    return visible(data.decode("utf-8", "backslashreplace"))
