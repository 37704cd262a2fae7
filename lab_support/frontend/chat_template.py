"""A conversation to the one string that the model was trained to continue: the model folder's Jinja template.

The template comes with a model and runs in Jinja's sandbox. Jinja is imported by the first chat and not at start:
it would be a tenth of an API server's start-up time.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from lab_support.config import in_utf8


class ChatTemplateError(ValueError):
    """There is no template, or it does not take this conversation."""


class ChatTemplate:
    """`source` is Jinja text or None; `variables` are what templates expect beside the messages (bos_token, …)."""

    def __init__(self, source: str | None, variables: dict[str, Any]) -> None:
        self._source = source
        self._variables = variables
        self._render: Callable[..., str] | None = None

    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The prompt. Raises `ChatTemplateError` with the template's own words where it refuses."""
        render = self._render = self._render or self._compile()
        from jinja2 import TemplateError

        try:
            return in_utf8(render(messages=messages, add_generation_prompt=add_generation_prompt, **self._variables))
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise ChatTemplateError(
                in_utf8(f"the model's chat template does not take these messages: {error}")
            ) from error

    def _compile(self) -> Callable[..., str]:
        if self._source is None:
            raise ChatTemplateError("this model has no chat template: use /v1/completions")
        from jinja2 import TemplateSyntaxError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=_now)
        try:
            return environment.from_string(self._source).render
        except TemplateSyntaxError as error:
            raise ChatTemplateError(f"the model's chat template is broken: {error}") from error


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own would escape < and >


def _refuse(message: str) -> NoReturn:
    raise ChatTemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
