"""Server-sent events as a test wants them."""

import json
from typing import Any


def events(text: str) -> list[Any]:
    """The data of each event: parsed JSON, or "[DONE]"."""
    assert text.endswith("\n\n")
    blocks = text.split("\n\n")[:-1]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def streamed_text(parsed: list[Any], index: int = 0) -> str:
    """The text of one choice, from the events of either way of asking."""
    text = ""
    for event in parsed:
        for choice in event["choices"] if isinstance(event, dict) else []:
            if choice["index"] == index:
                text += choice["text"] if "text" in choice else choice["delta"]["content"]
    return text
