"""A function of the notebook as a program of its own: its source, and that of the names it uses. Runs in the kernel.

A fresh process knows none of the notebook's other cells. So the modules, functions and plain values that the function
names go with it; objects do not, and then the program's own error says what is missing.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

_PLAIN = (bool, int, float, str, bytes, tuple, list, dict, set, type(None))


def own_source(function: Callable[..., Any]) -> str:
    """The text of `function` alone, as it stands in its cell. Raises `OSError` if it was not kept."""
    return textwrap.dedent(inspect.getsource(function))


def standalone(function: Callable[..., Any]) -> str:
    """A program that defines `function` and the notebook's names that it uses. Raises `OSError` like `own_source`."""
    inner = inspect.unwrap(function)
    notebook = inner.__globals__
    values: list[str] = []
    functions = [own_source(inner)]
    waiting = [*functions]
    seen = {inner.__name__}
    while waiting:
        for name in _names(waiting.pop()) & notebook.keys() - seen:
            seen.add(name)
            value = notebook[name]
            if isinstance(value, FunctionType) and value.__module__ == inner.__module__:
                functions.append(own_source(value))
                waiting.append(functions[-1])
            elif line := _definition(name, value):
                values.append(line)
    # Decorators and defaults are evaluated at definition: so values come first, and each function before its users.
    return "\n".join([*values, *reversed(functions)])


def _names(source: str) -> set[str]:
    """All that the text of a function names, in annotations, defaults and decorators too."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def _definition(name: str, value: object) -> str:
    """A line that gives `name` the same value in a fresh process; "" if there is none."""
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
