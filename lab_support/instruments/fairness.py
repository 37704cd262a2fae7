"""Evenness of shares: the Gini coefficient, and its values in a fair random draw. Standard library only.

Taught in: 04_who_gets_the_next_connection
"""

import functools
import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass


def gini(counts: Collection[int]) -> float:
    """0 if all have the same; (n - 1) / n if one of n has everything. Nothing at all counts as even."""
    ordered, whole = sorted(counts), sum(counts)
    if not whole:
        return 0.0
    ranked = sum(rank * count for rank, count in enumerate(ordered, 1))
    return 2 * ranked / (len(ordered) * whole) - (len(ordered) + 1) / len(ordered)


@dataclass(frozen=True, slots=True)
class FairDraw:
    """Results of chance alone. gini: its mean; most: its 99th percentile; busiest: that of the largest count."""

    gini: float
    most: float
    busiest: int


@functools.cache
def fair_draw(workers: int, connections: int, draws: int = 2000) -> FairDraw:
    """Give each of `connections` to one of `workers` at random, all equally likely; repeat `draws` times."""
    chance = random.Random(4)
    drawn = [Counter(chance.choices(range(workers), k=connections)) for _ in range(draws)]
    counts = [[each[worker] for worker in range(workers)] for each in drawn]
    ginis, busiest = sorted(map(gini, counts)), sorted(map(max, counts))
    last = int(0.99 * draws)
    return FairDraw(sum(ginis) / draws, ginis[last], busiest[last])
