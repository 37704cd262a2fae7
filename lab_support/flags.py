"""Command-line flags made from the fields of a dataclass: each has its name, default and help in one place.

`flag()` makes such a field, `add_flags` gives a parser one flag for each, `choices_of` reads them back, and `words_for`
turns values into command-line arguments. It imports no library, so that a wrong flag is refused in milliseconds.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from decimal import Decimal
from typing import Any


def count(text: str) -> int:
    """A whole number as vLLM reads it: 1k is 1000, 25.6k is 25600, 1K is 1024."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgtKMGT]?)", text.strip())
    if found is None:
        if re.fullmatch(r"[+-][0-9]+", text.strip()):
            return int(text)
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number, such as 1024, 1k (1000) or 1K (1024)")
    number, unit = Decimal(found[1]), found[2]
    times = 1 if not unit else (1000 if unit.islower() else 1024) ** ("kmgt".index(unit.lower()) + 1)
    if number * times % 1 or ("." in found[1] and not unit.islower()):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number; fractions need one of k, m, g and t")
    return int(number * times)


def flag(
    default: Any,
    help: str,
    *,
    type: Any = None,
    metavar: str | None = None,
    choices: tuple[str, ...] | None = None,
    group: str = "server",
    shown: object = None,
    many: bool = False,
    short: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that is also a command-line flag: `max_num_seqs` becomes `--max-num-seqs`.

    type: turns an argument into the value, or raises `argparse.ArgumentTypeError`; by default it follows from the
    default's type, `count` for whole numbers. metavar: the value's name in the help. shown: the default's name there.
    many: it takes one argument or more. short: further names.
    """
    parse = type or _parser_for(default)
    details = {
        "help": help,
        "group": group,
        "type": parse,
        "metavar": metavar or ("INT" if parse in (count, int) else getattr(parse, "__name__", "value").upper()),
        "choices": choices,
        "shown": default if shown is None else shown,
        "many": many,
        "short": short,
    }
    return field(default=default, metadata=details)


def _parser_for(default: object) -> Callable[[str], Any]:
    if default is None:
        return str
    return count if isinstance(default, int) and not isinstance(default, bool) else default.__class__


def flags_of(kind: type) -> list[Field[Any]]:
    """The fields of a dataclass that `flag` made."""
    return [each for each in fields(kind) if "help" in each.metadata]


def as_flag(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Give `parser` one flag for each field of the dataclass `kind` that `flag` made, in groups."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for own in flags_of(kind):
        name = own.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        _add_flag(groups[name], own)


def _add_flag(group: argparse._ArgumentGroup, own: Field[Any]) -> None:
    details = own.metadata
    text = details["help"] + _default_in_words(details)
    if isinstance(own.default, bool):
        group.add_argument(as_flag(own.name), action=argparse.BooleanOptionalAction, default=own.default, help=text)
        return
    group.add_argument(
        as_flag(own.name),
        *details["short"],
        dest=own.name,
        type=details["type"],
        nargs="+" if details["many"] else None,
        choices=details["choices"],
        default=own.default,
        metavar=None if details["choices"] else details["metavar"],
        help=text,
    )


def _default_in_words(details: Mapping[str, Any]) -> str:
    shown = details["shown"]
    if shown is None or details["many"]:
        return ""
    return f" (default: {json.dumps(shown) if isinstance(shown, tuple) else shown})"


def choices_of(arguments: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The parsed value of each field of `kind`, also of a field that was no flag but a positional argument."""
    return {each.name: getattr(arguments, each.name) for each in fields(kind)}


def words_for(choices: Mapping[str, Any], kind: type) -> list[str]:
    """Settings as arguments of a command: `{"port": 0, "restart_api_servers": False}` and so on. None is left out."""
    many = {each.name for each in flags_of(kind) if each.metadata["many"]}
    words: list[str] = []
    for name, value in choices.items():
        if isinstance(value, bool):
            words.append(as_flag(name if value else f"no_{name}"))
        elif name in many and isinstance(value, list | tuple):
            words += [as_flag(name), *value] if value else []
        elif isinstance(value, list | tuple):
            words += [as_flag(name), json.dumps(value)]
        elif value is not None:
            words += [as_flag(name), str(value)]
    return words
