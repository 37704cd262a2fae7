"""Tokens that nobody computes: seeded draws from the vocabulary, the same again for the same request."""

import random
import zlib
from array import array
from collections.abc import Collection
from collections.abc import Sequence as Tokens

from lab_support.engine.request import Sequence


class SeededTokens:
    """Draws from `token_ids`, among which there is no end token: an answer ends by its length or what its client named.

    A request's `seed` decides, or else, at temperature 0, its prompt, as with a model. Any other answer is new.
    """

    def __init__(self, token_ids: Tokens[int]) -> None:
        self._token_ids = token_ids

    def next(self, sequence: Sequence) -> int:
        if sequence.random is None:
            sequence.random = random.Random(_seed_of(sequence.token_ids[: sequence.num_prompt]))
        place = int(sequence.random.random() * len(self._token_ids))
        sampling = sequence.sampling
        if sampling.stop_token_ids and sequence.num_generated < sampling.min_tokens:
            return self._first_but(sampling.stop_token_ids, place)
        return self._token_ids[place]

    def _first_but(self, forbidden: Collection[int], place: int) -> int:
        """The first allowed token from `place` on: before min_tokens, no stop token ends an answer."""
        around = (self._token_ids[(place + more) % len(self._token_ids)] for more in range(len(forbidden) + 1))
        return next((token for token in around if token not in forbidden), self._token_ids[place])


def _seed_of(prompt: list[int]) -> int:
    return zlib.crc32(array("q", prompt).tobytes())
