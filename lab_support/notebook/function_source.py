"""A function of the notebook as a program of its own: its source, and that of what it uses. Runs in the kernel.

A fresh process knows none of the notebook's other cells. So the modules, functions and plain values that the function
names go with it; objects do not, and the program then says in its own words what is missing.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

_PLAIN = (bool, int, float, str, bytes, tuple, list, dict, set, type(None))


def own_source(function: Callable[..., Any]) -> str:
    """The text of `function` alone, as it stands in its cell. Raises `OSError` where nobody kept it."""
    return textwrap.dedent(inspect.getsource(function))


def standalone(function: FunctionType) -> str:
    """A program that defines `function` and what it uses of the notebook. Raises `OSError` as `own_source` does."""
    lines: dict[str, str] = {}
    waiting = [function]
    seen = {function.__name__}
    while waiting:
        current = waiting.pop()
        for name in _names(current.__code__):
            value = current.__globals__.get(name, _NOTHING)
            if value is _NOTHING or name in seen:
                continue
            seen.add(name)
            if isinstance(value, FunctionType) and value.__module__ == function.__module__:
                lines[name] = own_source(value)
                waiting.append(value)
            elif line := _definition(name, value):
                lines[name] = line
    return "\n".join([*lines.values(), own_source(function)])


_NOTHING = object()


def _names(code: CodeType) -> Iterator[str]:
    """Every global name and attribute that the code mentions, in the functions inside it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _definition(name: str, value: object) -> str:
    """A line that gives `name` the same value in a fresh process; "" where there is none."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}"
    place, itself = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if place in sys.modules and getattr(sys.modules[place], itself, None) is value:
        return f"from {place} import {itself} as {name}" if place != "__main__" else ""
    return f"{name} = {value!r}" if isinstance(value, _PLAIN) and _can_be_written(value) else ""


def _can_be_written(value: object) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (SyntaxError, ValueError):
        return False
