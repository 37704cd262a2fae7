"""Full blocks by key, and the order in which those without a user are evicted: the least recently used first."""

from collections import OrderedDict
from collections.abc import Iterable


class CachedBlocks:
    """Each cached block has one key, and each key one block. A block is in use or waits to be evicted."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()  # the next one to be evicted first

    def __contains__(self, block: int) -> bool:
        return block in self._keys

    @property
    def num_unused(self) -> int:
        return len(self._unused)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks with these keys, up to the first key that no block has."""
        found = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def add(self, block: int, key: bytes) -> None:
        """Cache a block that is in use, unless another one has its key: two sequences may compute the same tokens."""
        if key not in self._blocks:
            self._blocks[key] = block
            self._keys[block] = key

    def use(self, block: int) -> None:
        """A cached block has its first user again."""
        del self._unused[block]

    def leave(self, block: int) -> None:
        """A cached block has lost its last user, and is the most recently used one now."""
        self._unused[block] = None

    def evict(self) -> int:
        """Forget the least recently used block and return it. There is one."""
        block, _ = self._unused.popitem(last=False)
        del self._blocks[self._keys.pop(block)]
        return block
