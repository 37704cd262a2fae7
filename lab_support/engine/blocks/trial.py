"""An estimate of free blocks: how many there would be if sequences came and went. Nothing is taken or given back."""

from collections.abc import Iterable, Sequence


class Trial:
    """Counts the users of each block that would change. users: the present number for each block."""

    def __init__(self, users: Sequence[int]) -> None:
        self._users = users
        self._changed: dict[int, int] = {}

    def take(self, blocks: Iterable[int]) -> int:
        """One more user of each block. Returns how many of them had none."""
        return sum(self._change(block, 1) == 1 for block in blocks)

    def give_back(self, blocks: Iterable[int]) -> int:
        """One user less of each block. Returns how many of them have none now."""
        return sum(self._change(block, -1) == 0 for block in blocks)

    def _change(self, block: int, by: int) -> int:
        users = self._changed[block] = self._changed.get(block, self._users[block]) + by
        return users
