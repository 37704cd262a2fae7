"""Stop strings in text that arrives in pieces: a stop string may begin in one piece and end in another.

Text is let through as soon as it can't be the beginning of a stop string any more. It knows nothing of tokens.
"""


class StopStrings:
    """Looks for the earliest of `stops` in one sequence's text. `matched` is set once, when one was found.

    A stop string counts if its last character does: some of the text may be protected (`min_tokens`), and one that
    begins there and ends behind it is found.
    """

    __slots__ = ("_held", "_include", "_protected", "_stops", "matched")

    def __init__(self, stops: tuple[str, ...], include: bool = False) -> None:
        self._stops = stops
        self._include = include
        self._held = ""
        self._protected = 0  # characters of what is held
        self.matched: str | None = None

    def push(self, piece: str, protected: bool = False) -> str:
        """The text that may be shown now. When `matched` is set after it, that was the last of it."""
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
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        found = [(at, stop) for stop in self._stops if (at := text.find(stop, self._earliest(stop))) >= 0]
        if not found:
            return None
        at, self.matched = min(found)
        return at + len(self.matched) if self._include else at

    def _earliest(self, stop: str) -> int:
        """Where it may begin and not end within what is protected."""
        return max(0, self._protected - len(stop) + 1)

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        return max(_overlap(text, stop) for stop in self._stops)


def _overlap(text: str, stop: str) -> int:
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
