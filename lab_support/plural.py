"""A count with its noun, for sentences."""


def counted(count: int, what: str) -> str:
    """The count and the noun in its form: `1 pipe`, `3 processes`, `2 shared memories`."""
    if count == 1:
        return f"1 {what}"
    if what.endswith(("s", "x", "ch", "sh")):
        return f"{count} {what}es"
    if what.endswith("y") and what[-2] not in "aeiou":
        return f"{count} {what[:-1]}ies"
    return f"{count} {what}s"
