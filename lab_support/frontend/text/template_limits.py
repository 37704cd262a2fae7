"""Limits of time and memory for a chat template, which comes with a model and may loop or grow without end.

A thread can't be stopped from outside, so the template is watched from inside: Python calls a trace function
(sys.settrace) before each line of the Python code that Jinja made of it, and an exception raised there ends it. The
sandbox checks operators and calls, and so refuses a single step that would make something huge.
"""

import _weakrefset
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from math import prod
from time import perf_counter
from types import FrameType
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LARGEST_NUMBER = 1_000_000  # largest argument (a width, a count), and largest length that one step may make
MOST_BITS = 10_000  # of an integer
MOST_GROWTH = 32 * 1024 * 1024  # bytes by which the process may grow while a template runs
_LOOK_EVERY = 0.0005  # seconds between two looks at the process's memory; a large string takes longer to double
_AT_AN_END = {weakref.__file__, _weakrefset.__file__}
_WIDE = re.compile(r"\d{7}|\*")
_WIDENING_FILTERS = ("center", "indent", "wordwrap", "batch", "slice", "format", "truncate", "replace", "join")


class OutOfTime(Exception):
    """The template ran for longer than allowed."""


class OutOfMemory(Exception):
    """The process grew too much while the template ran."""


@contextmanager
def watched(seconds: float, filename: str) -> Iterator[None]:
    """Stop the code in the `with` block, in this thread, after `seconds`. Raises `OutOfTime`, `OutOfMemory` inside it.

    filename: code of this file is stopped at any line, other code only at a call.
    """
    end = perf_counter() + seconds
    looked_at = perf_counter()
    before = 0

    def watch(frame: Any, event: str, argument: object) -> Any:
        nonlocal looked_at, before
        now = perf_counter()
        if now > end and not _is_dropped(frame):
            raise OutOfTime
        if now - looked_at > _LOOK_EVERY:
            before = before or _memory()
            if _memory() - before > MOST_GROWTH and not _is_dropped(frame):
                raise OutOfMemory
            looked_at = perf_counter()
        return watch if frame.f_code.co_filename == filename else None

    earlier = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(earlier)


def _is_dropped(frame: FrameType | None) -> bool:
    """Would Python drop an exception raised here, and stop tracing? It does so while a finalizer runs."""
    while frame is not None:
        if frame.f_code.co_filename in _AT_AN_END or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _memory() -> int:
    """Bytes that this process has in memory; 0 if the system doesn't say."""
    with suppress(OSError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which no single step makes something huge."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name in _WIDENING_FILTERS:
            self.filters[name] = _narrow(name, self.filters[name])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _check_bits(_bits(left) * (right if isinstance(right, int) else 1))
        elif isinstance(left, str):
            _check_format(left)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *arguments: Any, **named: Any) -> Any:
        _check_numbers(arguments, named)
        if getattr(__obj, "__name__", "") in ("replace", "join"):
            _check_parts((getattr(__obj, "__self__", None), *arguments))
        return super().call(__context, __obj, *arguments, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if isinstance(text := getattr(value, "__self__", None), str):
            _check_format(text)
        return super().wrap_str_format(value)


def _narrow(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same filter, but only for arguments of moderate size."""

    @wraps(function)  # it also copies the marks that tell Jinja which first argument to pass
    def narrow(*arguments: Any, **named: Any) -> Any:
        _check_numbers(arguments, named)
        if name == "format" and isinstance(arguments[0], str):
            _check_format(arguments[0])
        if name in ("replace", "join"):
            _check_parts((*arguments, *named.values()))
        return function(*arguments, **named)

    return narrow


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise SecurityError("it formats with a width that is too large")


def _check_numbers(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    for each in (*arguments, *named.values()):
        if isinstance(each, int) and abs(each) > LARGEST_NUMBER:
            raise SecurityError(f"it calls something with a number over {LARGEST_NUMBER}")


def _check_parts(parts: tuple[Any, ...]) -> None:
    """Check arguments of `replace` and `join`, whose result is at most as long as the product of their lengths."""
    sizes = sorted(len(each) for each in parts if isinstance(each, str | list | tuple))[-2:]
    if prod(sizes) > MOST_GROWTH and min(sizes) > 100:
        raise SecurityError("it inserts a long text in too many places")


def _check_product(left: Any, right: Any) -> None:
    _check_bits(_bits(left) + _bits(right))
    for times, whole in ((left, right), (right, left)):
        sized = isinstance(times, int) and isinstance(whole, str | bytes | list | tuple)
        if sized and times * len(whole) > LARGEST_NUMBER:
            raise SecurityError(f"it repeats something to a length over {LARGEST_NUMBER}")


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise SecurityError(f"it makes a number of more than {MOST_BITS} bits")


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0
