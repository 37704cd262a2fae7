"""Renders a conversation, with the model folder's Jinja template, into the string that the model is to continue.

The template comes with a model and runs in Jinja's sandbox, within limits (text/template_limits.py), with everything
that transformers provides (text/template_environment.py). The first chat imports Jinja, because importing it at start
would take a tenth of an API server's start-up time.

The text equals that of transformers' `apply_chat_template`, except in these cases:

- A template that writes a list of parts as a text gets their texts, joined by line feeds; a template that loops over
  the parts of a plain text gets the text as its only part. transformers would write `[{'type': …` into the prompt, or
  silently leave the text out; vLLM does the same as this server (text/template_content.py).
- The role `developer` becomes `system`, which templates know.
- An assistant's content of null is an empty text, as in vLLM; transformers passes no content.
- Templates that exceed the limits of time, memory and size are refused.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab_support.config import in_utf8
from lab_support.frontend.text.template_content import Message, join_all, noting, reshape

if TYPE_CHECKING:
    from jinja2 import Template

SECONDS = 2.0  # time that a template may take
_FILENAME = "<template>"  # Jinja's name for a template made from a string
_MORE_THAN_GIVEN = 1_048_576  # characters that a template may add to those of the messages


class ChatTemplateError(ValueError):
    """There is no template, or it does not accept this conversation."""


class ChatTemplateSlow(ChatTemplateError):
    """The template takes longer than allowed."""


class ChatTemplate:
    """`source` is Jinja text or None. `variables`: those that templates expect besides the messages (bos_token, …)."""

    def __init__(self, source: str | None, variables: dict[str, Any]) -> None:
        self._source = source
        self._variables = variables
        self._template: Template | None = None

    @property
    def compiled(self) -> bool:
        """Has it been rendered before? The first time takes as long as importing Jinja."""
        return self._template is not None

    def render(self, messages: list[Message], add_generation_prompt: bool = True, seconds: float = SECONDS) -> str:
        """The prompt. Raises `ChatTemplateError`, with the template's own words if it refuses. Any thread may call it.

        Raises `ChatTemplateSlow` after `seconds`.
        """
        self._template = self._template or self._compile()
        from lab_support.frontend.text.template_environment import REFUSALS
        from lab_support.frontend.text.template_limits import OutOfMemory, OutOfTime, watched

        try:
            with watched(seconds, _FILENAME):
                given = {"tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
                writer = _Writer(self._template, self._variables | given, _MORE_THAN_GIVEN + 4 * _characters(messages))
                return in_utf8(writer.fitted(noting(messages)))
        except OutOfTime as error:
            raise ChatTemplateSlow(
                f"the model's chat template took more than {seconds:g} s for these messages; send fewer"
            ) from error
        except (OutOfMemory, MemoryError) as error:
            raise ChatTemplateError("the model's chat template takes too much memory for these messages") from error
        except REFUSALS as error:
            raise ChatTemplateError(
                in_utf8(f"the model's chat template does not take these messages: {error}")
            ) from error

    def _compile(self) -> "Template":
        if self._source is None:
            raise ChatTemplateError("this model has no chat template: use /v1/completions")
        from lab_support.frontend.text.template_environment import REFUSALS, compiled

        try:
            return compiled(in_utf8(self._source))
        except (*REFUSALS, SyntaxError) as error:
            raise ChatTemplateError(f"the model's chat template is broken: {error}") from error


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes a prompt of at most `most` characters."""

    template: "Template"
    variables: dict[str, Any]
    most: int

    def fitted(self, messages: list[Message]) -> str:
        """The prompt, with each content in the shape that the template takes."""
        from lab_support.frontend.text.template_environment import REFUSALS

        try:
            text = self._text(messages)
        except REFUSALS:
            if not join_all(messages):
                raise
            return self._text(messages)
        return self._text(messages) if reshape(messages) else text

    def _text(self, messages: list[Message]) -> str:
        pieces, size = [], 0
        for piece in self.template.generate(self.variables | {"messages": messages}):
            size += len(piece)
            if size > self.most:
                raise ValueError(f"it makes more than {self.most} characters of them")
            pieces.append(piece)
        return "".join(pieces)


def _characters(value: Any) -> int:
    """The characters of all texts in `value`, at any depth."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            count += len(each)
        elif isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)
    return count
