"""The contents of messages, in the shape that a chat template takes: a text, or a list of parts.

Clients send either, and templates are written for one of them or for both. Running a template shows its kind, because
it loops over a content's parts or it does not. So contents record how they are used, and the template runs again if one
had the wrong shape. vLLM looks for such a loop in the template's syntax instead (`--chat-template-content-format
auto`), and misses it in a macro.
"""

from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]


class Text(str):
    """A content that is a text. `walked`: the template looped over it as if it were a list of parts."""

    walked = False

    def __iter__(self) -> Iterator[str]:
        self.walked = True
        return super().__iter__()


class Parts(list[Message]):
    """A content that is a list of parts.

    walked: the template read one of them. written: it wrote the list as a text.
    """

    walked = False
    written = False

    def __init__(self, given: list[Message]) -> None:
        super().__init__(given)
        self._given = given  # the original, because Jinja's `indent` adds to a list that it takes for a text

    def __iter__(self) -> Iterator[Message]:
        self.walked = True
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.walked = self.walked or isinstance(index, int)
        return super().__getitem__(index)

    def __repr__(self) -> str:
        self.written = True
        return super().__repr__()

    def joined(self) -> str:
        """The texts of all parts, joined as vLLM joins them for a template that wants a text."""
        return "\n".join(part["text"] for part in self._given)


def noting(messages: list[Message]) -> list[Message]:
    """The messages with contents that record how they are used."""
    return [message | {"content": _noting(message["content"])} for message in messages]


def reshape(messages: list[Message]) -> bool:
    """Convert each content of the wrong shape into the other shape. True if there was any."""
    wrong = [message for message in messages if _had_wrong_shape(message["content"])]
    for message in wrong:
        content = message["content"]
        message["content"] = content.joined() if isinstance(content, Parts) else [_part(content)]
    return bool(wrong)


def walk(value: Any) -> None:
    """Record that all parts in `value` are read, because JSON reads them without calling their methods."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        walk(each)


def join_all(messages: list[Message]) -> bool:
    """Convert each list of parts into a text. True if there was any."""
    found = [message for message in messages if isinstance(message["content"], Parts)]
    for message in found:
        message["content"] = message["content"].joined()
    return bool(found)


def _noting(content: Any) -> Any:
    return Text(content) if isinstance(content, str) else Parts(content)


def _had_wrong_shape(content: Any) -> bool:
    if isinstance(content, Parts):
        return content.written or not content.walked
    return isinstance(content, Text) and content.walked


def _part(content: str) -> Message:
    return {"type": "text", "text": str(content)}
