"""A Python value in words, for readers: `answered: 100, no answer: 28` in place of a dictionary."""

from collections.abc import Mapping


def plain(value: object, *, digits: int = 2) -> str:
    """`value` in words. digits: of a float, after the point. Text stays as it is; only empty text gives ""."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    if isinstance(value, Mapping):
        pairs = (f"{plain(key, digits=digits)}: {plain(each, digits=digits)}" for key, each in value.items())
        return ", ".join(pairs) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return ", ".join(plain(each, digits=digits) for each in items) or "none"
    return str(value)
