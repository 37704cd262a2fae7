"""Finds stop strings in text that arrives in pieces: one may begin in one piece and end in another.

Text is passed on as soon as it can't be the beginning of a stop string any more. It knows nothing of tokens.
"""


class StopStrings:
    """Looks for the earliest of `stops` in one sequence's text. `matched` is set once, when one is found.

    A stop string that ends in protected text (`min_tokens`) is ignored; one that begins there and ends after it counts.
    """

    __slots__ = ("_held", "_include", "_protected", "_stops", "matched")

    def __init__(self, stops: tuple[str, ...], include: bool = False) -> None:
        self._stops = stops
        self._include = include
        self._held = ""
        self._protected = 0  # protected characters at the beginning of `_held`
        self.matched: str | None = None

    def push(self, piece: str, protected: bool = False) -> str:
        """The text that may be shown now. If `matched` is set afterwards, this was the last of it."""
        text = self._held + piece
        if protected:
            self._protected = len(text)
        end = self._find(text)
        if end is not None:
            self._held = ""
            return text[:end]
        shown = len(text) - self._possible_beginning(text)
        self._held = text[shown:]
        self._protected = max(0, self._protected - shown)
        return text[:shown]

    def flush(self) -> str:
        """The text that was held back. Call it when no more text will come."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        found = [(at, stop) for stop in self._stops if (at := text.find(stop, self._earliest(stop))) >= 0]
        if not found:
            return None
        at, self.matched = min(found)
        return at + len(self.matched) if self._include else at

    def _earliest(self, stop: str) -> int:
        """The first index at which `stop` may begin without ending in protected text."""
        return max(0, self._protected - len(stop) + 1)

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest suffix of `text` that is a prefix of a stop string."""
        return max(_overlap(text, stop) for stop in self._stops)


def _overlap(text: str, stop: str) -> int:
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
