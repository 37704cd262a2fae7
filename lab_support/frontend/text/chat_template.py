"""A conversation to the one string that the model was trained to continue: the model folder's Jinja template.

The template comes with a model and runs in Jinja's sandbox, within limits (template_limits.py), with all that
transformers gives it (template_environment.py). Jinja is imported by the first chat and not at start: it would be a
tenth of an API server's start-up time.

The text is that of transformers' `apply_chat_template`, but for these cases:

- A template that writes a list of parts down gets their texts, joined by line feeds; one that goes over the parts of
  a message that has none gets the text as its one part. transformers would write `[{'type': …` into the prompt, or
  leave the text out without a word; vLLM does as we do (template_content.py).
- The role `developer` is `system`, which is what templates know.
- An assistant's content of null is an empty text, as in vLLM; transformers has no content then.
- What exceeds the limits of time, memory and size is refused.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab_support.config import in_utf8
from lab_support.frontend.text.template_content import Message, join_all, noting, reshape

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

    def render(self, messages: list[Message], add_generation_prompt: bool = True, seconds: float = SECONDS) -> str:
        """The prompt. Raises `ChatTemplateError` with the template's own words where it refuses. Any thread may call.

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
                f"the model's chat template took more than {seconds:g} s for these messages; give it fewer"
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
    """Writes a prompt of `most` characters at the most."""

    template: "Template"
    variables: dict[str, Any]
    most: int

    def fitted(self, messages: list[Message]) -> str:
        """With each content in the shape that the template takes."""
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
    """Of all texts in it, however deep."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            count += len(each)
        elif isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)
    return count
