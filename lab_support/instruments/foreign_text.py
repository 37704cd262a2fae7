"""Text that somebody else chose: names of processes, sockets and files in /proc, headers of a server's answer.

The kernel takes any bytes but NUL for a name: line feeds, escape codes for a terminal, half a character. So files are
read as bytes and cut at line feeds alone, and what goes into a dataclass can be printed, drawn and written as UTF-8.
"""

from pathlib import Path


def read_text(path: Path) -> str:
    """A file of the kernel's, whatever bytes are in it: what is not UTF-8 becomes `\\xe9`. Raises `OSError`.

    `Path.read_text` would also turn a carriage return within a name into a line feed.
    """
    return path.read_bytes().decode("utf-8", "backslashreplace")


def visible(text: str) -> str:
    """`text` without what a terminal obeys and UTF-8 can't write: an escape code becomes `\\x1b`, a line feed `\\n`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def visible_bytes(data: bytes) -> str:
    """The same of a name as the kernel has it."""
    return visible(data.decode("utf-8", "backslashreplace"))
