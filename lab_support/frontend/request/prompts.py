"""Turns a request's texts, token ids or conversation into prompts of token ids, checked against the model's limits."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

from lab_support.frontend.http.errors import ApiError, bad_request
from lab_support.frontend.request.openai_api import MOST_PROMPTS, CompletionRequest
from lab_support.frontend.request.served_model import ServedModel
from lab_support.frontend.text.chat_template import ChatTemplateError, ChatTemplateSlow
from lab_support.frontend.text.speller import spell
from lab_support.frontend.text.template_content import Message
from lab_support.frontend.text.tokenizer import CHARACTERS_AT_ONCE, Tokenizer

T = TypeVar("T")

CONTEXT = 8  # tokens: a space or a character depends on no more of the preceding text
REASONING = ("reasoning_content", "thinking", "reasoning")  # names that clients use for it; the first is the templates'
TEMPLATE_AT_ONCE = 0.01  # seconds of a chat template in the event loop; a slower one begins again in a thread


@dataclass(frozen=True, slots=True)
class Prompt:
    """The token ids of one prompt, and its text if the client wants it echoed.

    context: its last tokens, if the answer's text continues the prompt's; a chat's answer is a text of its own.
    """

    token_ids: list[int]
    echo: str = ""
    context: tuple[int, ...] = ()


class PromptReader:
    """Reads prompts. Long work is done in a thread, one piece at a time, so that running streams don't wait."""

    def __init__(self, tokenizer: Tokenizer, on_tokenized: Callable[[float], None] = lambda seconds: None) -> None:
        self._tokenizer = tokenizer
        self._on_tokenized = on_tokenized
        self._one_at_a_time = asyncio.Lock()

    async def completion(
        self, given: Sequence[str | list[int]], request: CompletionRequest, model: ServedModel
    ) -> list[Prompt]:
        """The prompts of /v1/completions. given: from `prompts_of`. Raises `ApiError` (400)."""
        special = request.add_special_tokens is not False
        prompts: list[Prompt] = []
        for each in given:
            if prompts:
                await asyncio.sleep(0)  # let others run, because each prompt may take a millisecond
            prompts.append(await self._one(each, special, bool(request.echo), model))
        return prompts

    async def chat(
        self, messages: list[Message], model: ServedModel, add_generation_prompt: bool = True, special: bool = False
    ) -> list[int]:
        """The prompt that the model's chat template makes of a conversation. Raises `ApiError` (400).

        messages: as `RequestParser.parse_conversation` returns them.
        """
        _refuse_tool_calls(messages)
        try:
            text = await self._render([_for_template(message) for message in messages], add_generation_prompt)
        except ChatTemplateError as error:
            raise bad_request(str(error), "messages") from error
        token_ids = await self.encode(text, special, model.max_model_len, "messages")
        self._check_known(token_ids, model.vocab_size, "messages")
        return token_ids

    async def _render(self, messages: list[Message], add_generation_prompt: bool) -> str:
        template = self._tokenizer.chat_template
        if template.compiled:
            with suppress(ChatTemplateSlow):
                return template.render(messages, add_generation_prompt, TEMPLATE_AT_ONCE)
        async with self._one_at_a_time:
            return await asyncio.to_thread(template.render, messages, add_generation_prompt)

    async def decode(self, token_ids: list[int]) -> str:
        """The text of all ids at once."""
        return await self._for_ids(self._tokenizer.decode, token_ids)

    async def token_texts(self, token_ids: list[int]) -> list[str]:
        """The text of each id, special tokens included; joined, they are the text of all ids."""
        return await self._for_ids(partial(spell, self._tokenizer), token_ids)

    async def _for_ids(self, function: Callable[[list[int]], T], token_ids: list[int]) -> T:
        if len(token_ids) <= CHARACTERS_AT_ONCE:
            return function(token_ids)
        async with self._one_at_a_time:
            return await asyncio.to_thread(function, token_ids)

    async def shortest_chat(self, model: ServedModel) -> int:
        """Tokens of an empty conversation; 1 if the model has no chat template."""
        try:
            return max(1, len(await self.chat([{"role": "user", "content": ""}], model)))
        except ApiError:
            return 1

    async def encode(self, text: str, special: bool, most: int, param: str) -> list[int]:
        """Token ids of `text`. Raises `ApiError` (400) if they are certainly more than `most`."""
        started = monotonic()
        if len(text) <= CHARACTERS_AT_ONCE:
            token_ids = self._tokenizer.encode(text, special)
        else:
            token_ids = await self._encode_long(text, special, most, param)
        self._on_tokenized(monotonic() - started)
        return token_ids

    async def _encode_long(self, text: str, special: bool, most: int, param: str) -> list[int]:
        async with self._one_at_a_time:
            token_ids = await asyncio.to_thread(self._tokenizer.encode_up_to, text, most, special)
        if token_ids is None:
            raise _too_long(f"{len(text)} characters, which are more than {most} tokens", most, param)
        return token_ids

    def _check_known(self, token_ids: list[int], vocab_size: int, param: str) -> None:
        """A tokenizer may have tokens for which the model has no row, such as a [PAD] added later."""
        if token_ids and (highest := max(token_ids)) >= vocab_size:
            raise bad_request(
                f"{param}: got the token {self._tokenizer.token_text(highest)!r:.100} with id {highest}, "
                f"but this model knows ids 0 to {vocab_size - 1}",
                param,
            )

    async def _one(self, given: str | list[int], special: bool, echo: bool, model: ServedModel) -> Prompt:
        if isinstance(given, str):
            token_ids = await self.encode(given, special, model.max_model_len, "prompt") if given else []
            self._check_known(token_ids, model.vocab_size, "prompt")
        else:
            token_ids = given
            _check_range(token_ids, model.vocab_size)
        if not token_ids:
            raise bad_request("prompt: got an empty one, allowed is at least one token", "prompt")
        if len(token_ids) >= model.max_model_len:
            raise _too_long(f"{len(token_ids)} tokens", model.max_model_len, "prompt")
        context = tuple(token_ids[-CONTEXT:])
        if not echo:
            return Prompt(token_ids, context=context)
        return Prompt(token_ids, given if isinstance(given, str) else await self.decode(given), context)


def prompts_of(given: str | list[str | int | list[int]]) -> Sequence[str | list[int]]:
    """The prompts of a request, at least one. Raises `ApiError` (400)."""
    if isinstance(given, str):
        return [given]
    kinds = {type(each) for each in given}
    if kinds == {int}:
        return [given]  # type: ignore[list-item]
    if len(kinds) != 1:
        got = "an empty list" if not kinds else "a list of " + " and ".join(sorted(kind.__name__ for kind in kinds))
        raise bad_request(
            f"prompt: got {got}, allowed are a text, a list of texts, a list of token ids or a list of such lists",
            "prompt",
        )
    if len(given) > MOST_PROMPTS:
        raise bad_request(f"prompt: got {len(given)} prompts, allowed are {MOST_PROMPTS}", "prompt")
    return given  # type: ignore[return-value]


def _check_range(token_ids: list[int], vocab_size: int) -> None:
    if token_ids and not 0 <= (lowest := min(token_ids)) <= (highest := max(token_ids)) < vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise bad_request(f"prompt: got token id {wrong}, allowed are 0 to {vocab_size - 1}", "prompt")


def _too_long(got: str, max_model_len: int, param: str) -> ApiError:
    return bad_request(
        f"{param}: got {got}, but this model's context is {max_model_len} tokens, one of them the answer's",
        param,
        "context_length_exceeded",
    )


def _refuse_tool_calls(messages: list[Message]) -> None:
    for index, message in enumerate(messages):
        if message.get("tool_calls") not in (None, []):
            param = f"messages[{index}].tool_calls"
            raise bad_request(
                f"{param}: got some, allowed is none: this server has no tools", param, "unsupported_field"
            )


def _for_template(message: Message) -> Message:
    """A message as transformers passes it to a template: without nulls, its reasoning under the templates' names."""
    given = {name: value for name, value in message.items() if value is not None}
    role = {"role": "system" if given["role"] == "developer" else given["role"]}
    reasoning = next((given[name] for name in REASONING if name in given), None)
    names = {} if reasoning is None else {"reasoning_content": reasoning}
    aliases = {"thinking": reasoning} if names else {}
    return aliases | given | role | names | {"content": given.get("content", "")}
