"""The environment of chat templates: everything that transformers gives them (5.23, `utils/chat_template_utils.py`).

It imports Jinja; the first chat imports it.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.utils import Namespace

from lab_support.frontend.text.template_content import Parts, Text, walk
from lab_support.frontend.text.template_limits import BoundedSandbox

REFUSALS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError)
"""Exceptions of a template that does not accept a conversation, in its own words or in Python's."""

WIDEST = 100  # most characters of an indent or a separator that a template chooses


def compiled(source: str) -> Template:
    """The template, compiled. Raises Jinja's errors and RecursionError."""
    environment = BoundedSandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.tests["iterable"] = _is_iterable(environment.tests["iterable"])
    environment.globals.update(
        raise_exception=_refuse, strftime_now=_now, dict=TemplateDict(), namespace=TemplateNamespace
    )
    return environment.from_string(source)


class Generation(Extension):
    """`{% generation %}` marks the model's own text for training; in a prompt only its text is written."""

    tags = {"generation"}  # noqa: RUF012, Jinja's

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Callable[[], str]) -> str:
        return caller()


class TemplateDict:
    """`dict(…)` and `dict.fromkeys(…)`, and nothing else of the class."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class TemplateNamespace(Namespace):
    """`namespace(…)`, without names that begin with an underscore."""

    def __init__(*arguments: Any, **named: Any) -> None:  # self among them: a template may give a name `self`
        attributes = dict(*arguments[1:], **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(arguments[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it gives a namespace the name {name!r}, which begins with an underscore")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without Jinja's escapes for < and >."""
    for each in (indent, *(separators or ())):
        if (each if isinstance(each, int) else len(each or "")) > WIDEST:
            raise ValueError(f"tojson: got more than {WIDEST} characters for an indent or a separator")
    walk(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _is_iterable(usual: Any) -> Callable[[Any], bool]:
    """Test a content by its type, because iterating it would count as use of its parts."""
    return lambda value: isinstance(value, Text | Parts) or usual(value)


def _refuse(message: Any) -> NoReturn:
    raise TemplateError(str(message))


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
