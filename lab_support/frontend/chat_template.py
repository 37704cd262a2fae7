"""A conversation to the one string that the model was trained to continue: the model folder's Jinja template.

The template comes with a model and runs in Jinja's sandbox, within limits (template_limits.py). Jinja is imported by
the first chat and not at start: it would be a tenth of an API server's start-up time.
"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from lab_support.config import in_utf8

if TYPE_CHECKING:
    from jinja2 import Template

SECONDS = 2.0  # that a template may take
_FILENAME = "<template>"  # Jinja's, for a template made of a string
_MORE_THAN_GIVEN = 1_048_576  # characters that a template may add to what the messages hold


class ChatTemplateError(ValueError):
    """There is no template, or it does not take this conversation."""


class ChatTemplateSlow(ChatTemplateError):
    """It takes longer than it was given."""


class ChatTemplate:
    """`source` is Jinja text or None; `variables` are what templates expect beside the messages (bos_token, …)."""

    def __init__(self, source: str | None, variables: dict[str, Any]) -> None:
        self._source = source
        self._variables = variables
        self._template: Template | None = None

    @property
    def compiled(self) -> bool:
        """Has it been rendered before? The first time takes as long as importing Jinja does."""
        return self._template is not None

    def render(
        self, messages: list[dict[str, str]], add_generation_prompt: bool = True, seconds: float = SECONDS
    ) -> str:
        """The prompt. Raises `ChatTemplateError` with the template's own words where it refuses. Any thread may call.

        Raises `ChatTemplateSlow` after `seconds`.
        """
        template = self._template = self._template or self._compile()
        from jinja2 import TemplateError

        from lab_support.frontend.template_limits import OutOfMemory, OutOfTime, watched

        try:
            with watched(seconds, _FILENAME):
                return in_utf8(self._pieces(template, messages, add_generation_prompt))
        except OutOfTime as error:
            raise ChatTemplateSlow(
                f"the model's chat template took more than {seconds:g} s for these messages; give it fewer"
            ) from error
        except (OutOfMemory, MemoryError) as error:
            raise ChatTemplateError("the model's chat template takes too much memory for these messages") from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise ChatTemplateError(
                in_utf8(f"the model's chat template does not take these messages: {error}")
            ) from error

    def _pieces(self, template: "Template", messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        most = _MORE_THAN_GIVEN + 4 * sum(len(message["content"]) for message in messages)
        pieces, size = [], 0
        for piece in template.generate(
            messages=messages, add_generation_prompt=add_generation_prompt, **self._variables
        ):
            size += len(piece)
            if size > most:
                raise ValueError(f"it makes more than {most} characters of them")
            pieces.append(piece)
        return "".join(pieces)

    def _compile(self) -> "Template":
        if self._source is None:
            raise ChatTemplateError("this model has no chat template: use /v1/completions")
        from jinja2 import TemplateSyntaxError
        from jinja2.ext import loopcontrols

        from lab_support.frontend.template_limits import BoundedSandbox

        environment = BoundedSandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=_now)
        try:
            return environment.from_string(self._source)
        except (TemplateSyntaxError, RecursionError) as error:
            raise ChatTemplateError(f"the model's chat template is broken: {error}") from error


def _to_json(value: object, indent: int | None = None) -> str:
    if indent is not None and indent > 100:
        raise ValueError(f"tojson: got an indent of {indent}, allowed is up to 100")
    return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own would escape < and >


def _refuse(message: str) -> NoReturn:
    raise ChatTemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
