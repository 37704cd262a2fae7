"""Turns a request's body into a struct of `request/openai_api.py`, or raises `ApiError`: what was got, what is allowed.

Unknown fields are ignored and logged once. Fields that other servers know are refused by name if they would change the
answer, and ignored if not (user, metadata, store, …). `request/fields.py` lists both.
"""

import logging
import re
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from lab_support.frontend.http.density import check_density
from lab_support.frontend.http.errors import ApiError, bad_request
from lab_support.frontend.request.fields import IGNORED, IGNORED_OPTIONS, REFUSED
from lab_support.frontend.request.openai_api import ChatMessage, StreamOptions

R = TypeVar("R", bound=msgspec.Struct)
Messages = list[dict[str, Any]]

_MOST_LOOKED_AT_TWICE = 1_000_000  # bytes: this many, full of floats, take 50 ms
_MOST_NOTED = 10  # unknown names logged for one request
_MOST_UNKNOWN = 1000  # names remembered, so that a stream of invented ones can't fill the memory
_LACKED = "because this route lacks the field and ignoring it would change the answer"
_OPTIONS = frozenset(StreamOptions.__struct_encode_fields__)
_log = logging.getLogger("lab.api")


class RequestParser(Generic[R]):
    """Parses the bodies of one route. Made with the app."""

    def __init__(self, kind: type[R]) -> None:
        self._kind = _with_messages_as_given(kind)
        self._decode = msgspec.json.Decoder(self._kind).decode
        self._names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._known = frozenset(kind.__struct_encode_fields__)
        self._refused = REFUSED.get(kind, {})
        self._unknown: set[str] = set()

    def parse(self, body: bytes) -> R:
        """Raises `ApiError` (400)."""
        return self._parse(body)[0]

    def parse_conversation(self, body: bytes) -> tuple[R, Messages]:
        """A request without its `messages`, and these with all their fields, because a chat template may read any.

        The messages are [] if the request has none and needs none. Raises `ApiError` (400).
        """
        request, messages = self._parse(body)
        if messages:
            request.messages = []  # type: ignore[attr-defined]  # keep their texts in memory only once
        return request, messages

    def _parse(self, body: bytes) -> tuple[R, Messages]:
        check_density(body)
        _check_utf8(body)
        given: dict[str, msgspec.Raw] = {}
        try:
            given = self._names(body)
            if not given.keys() <= self._known:  # first, because a wrong name may be why another field is missing
                self._check_others(given)
            request = self._decode(body)
        except msgspec.ValidationError as error:
            request = self._second_try(str(error), body, given)
        except msgspec.DecodeError as error:
            raise bad_request(f"the body is not JSON: {_cause(error, body)}", code="invalid_json") from None
        except RecursionError:
            raise _too_deep() from None
        if "stream_options" in given:
            self._check_options(given["stream_options"])
        return request, _check_messages(request, body)

    def _second_try(self, message: str, body: bytes, given: dict[str, msgspec.Raw]) -> R:
        """Decode again with 16.0 as an integer: JSON has one kind of number, but msgspec's decoder has two."""
        if "got `float`" in message and len(body) <= _MOST_LOOKED_AT_TWICE:
            try:
                known = {name: _with_integers(given[name]) for name in given.keys() & self._known - {"messages"}}
                if "messages" in given:
                    known["messages"] = msgspec.json.decode(given["messages"])
                return msgspec.convert(known, self._kind)
            except msgspec.ValidationError as error:
                message = str(error)
            except RecursionError:
                raise _too_deep() from None
        raise _explain(message, body) from None

    def _check_others(self, given: dict[str, msgspec.Raw]) -> None:
        for name in self._refused.keys() & given.keys():
            check_harmless(name, _value(bytes(given[name])), self._refused[name], _LACKED)
        if "best_of" in given and "best_of" not in self._known:
            _check_best_of(given)
        for name in islice(given.keys() - self._known - self._refused.keys() - IGNORED - {"best_of"}, _MOST_NOTED):
            self._note(name)

    def _check_options(self, given: msgspec.Raw) -> None:
        options = _value(bytes(given))
        if isinstance(options, dict):
            for name in islice(options.keys() - _OPTIONS - IGNORED_OPTIONS, _MOST_NOTED):
                self._note(f"stream_options.{name}")

    def _note(self, name: str) -> None:
        if name not in self._unknown and len(self._unknown) < _MOST_UNKNOWN:
            self._unknown.add(name)
            _log.warning("ignored a field that this server does not know: %.100r", name)


class _Conversation(msgspec.Struct):
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]


def _with_messages_as_given(kind: type[R]) -> type[R]:
    """`kind` with undecoded messages, so that a body is decoded only once, for the template and for the checks."""
    if "messages" not in kind.__struct_fields__:
        return kind
    field = next(each for each in msgspec.structs.fields(kind) if each.name == "messages")
    messages = ("messages", Messages) if field.required else ("messages", Messages | msgspec.UnsetType, field.default)
    return msgspec.defstruct(kind.__name__, [messages], bases=(kind,), kw_only=True)  # type: ignore[return-value]


def _check_messages(request: msgspec.Struct, body: bytes) -> Messages:
    """The messages as plain dicts, after putting checked structs in their place; [] if there are none."""
    messages = getattr(request, "messages", msgspec.UNSET)
    if messages is msgspec.UNSET:
        return []
    try:
        checked = msgspec.convert({"messages": messages}, _Conversation)
    except msgspec.ValidationError as error:
        raise _explain(str(error), body) from None
    request.messages = checked.messages  # type: ignore[attr-defined]
    return messages


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise bad_request(
            f"the body is not UTF-8: got byte 0x{body[error.start]:02x} at position {error.start}", code="invalid_json"
        ) from None


def check_harmless(name: str, got: object, harmless: Sequence[object], why: str) -> None:
    """Raises `ApiError` (400) unless the value is one of `harmless`. why: the rest of the sentence."""
    if not any(_same(got, each) for each in harmless):
        allowed = " or ".join(_short(each) for each in harmless)
        raise bad_request(
            f"{name}: got {_short(got)}, allowed is only {allowed}, {why}",
            name,
            "unsupported_field",
        )


def _same(got: object, value: object) -> bool:
    """Equality in JSON: 1 and 1.0 are one number; true and 1 are two values, although they are equal in Python."""
    kinds = {
        bool if isinstance(each, bool) else float if isinstance(each, int | float) else type(each)
        for each in (got, value)
    }
    return len(kinds) == 1 and got == value


def _check_best_of(given: dict[str, msgspec.Raw]) -> None:
    n = _value(bytes(given["n"])) if "n" in given else 1
    got = _value(bytes(given["best_of"]))
    if got not in (None, n):
        raise bad_request(
            f"best_of: got {_short(got)}, allowed is only n, which is {_short(n)}", "best_of", "unsupported_field"
        )


# ---- msgspec's error texts to ours ----------------------------------------------------------------------------------

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_CHOICES = {"role": "system, developer, user or assistant", "type": "text"}
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def _explain(message: str, body: bytes) -> ApiError:
    """msgspec names the expected type and the place; add the value that was found there."""
    found = _WHERE.match(message)
    assert found is not None
    what, path = found["what"], found["path"] or ""
    param = path.removeprefix(".")
    if what.startswith("Object missing required field"):
        name = what.split("`")[1]
        param = f"{param}.{name}".removeprefix(".")
        return bad_request(f"{param}: got nothing, but this field is required", param, "missing_field")
    if what.startswith("Invalid enum value"):
        expected = _CHOICES[param.rsplit(".", 1)[-1]]
        return bad_request(f"{param}: got {_short(_at(_value(body), path))}, allowed is {expected}", param)
    expected = re.sub(r", got `\w+`$", "", what).removeprefix("Expected ")
    got = _short(_at(_value(body), path))
    return bad_request(f"{param or 'the body'}: got {got}, allowed is {expected}", param or None)


def _at(value: object, path: str) -> object:
    for name, index in _STEP.findall(path):
        if name and isinstance(value, dict):
            value = value.get(name)
        elif index and isinstance(value, list):
            value = value[int(index)]
    return value


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number


_with_integers = msgspec.json.Decoder(float_hook=_number).decode
"""Decodes floats that are whole numbers as ints; a field of type float takes both."""


def _value(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.UNSET  # a value that JSON can express but Python can't hold, like 1e999


def _short(value: object) -> str:
    if value is msgspec.UNSET:
        return "a value that can't be read"
    text = msgspec.json.encode(_beginning(value)).decode()
    return text if len(text) <= 80 else text[:77] + "…"


def _beginning(value: object, depth: int = 20) -> object:
    """As much of a value as its first 80 characters can show, because it may have any size and depth."""
    if isinstance(value, str):
        return value[:80]
    if not isinstance(value, list | dict):
        return value
    if not depth:
        return []
    if isinstance(value, list):
        return [_beginning(each, depth - 1) for each in value[:40]]
    return {name[:80]: _beginning(each, depth - 1) for name, each in islice(value.items(), 20)}


def _too_deep() -> ApiError:
    return bad_request("the body is nested too deeply: allowed are a few hundred levels", code="invalid_json")


def _cause(error: msgspec.DecodeError, body: bytes) -> str:
    if not body.strip():
        return "it is empty"
    if "truncated" in str(error):  # msgspec also says this about half a surrogate pair
        return "it ends early, or a string holds half of a surrogate pair (\\ud800 to \\udfff)"
    return str(error).removeprefix("JSON is malformed: ")
