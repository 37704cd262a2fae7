"""How even shares are: the Gini coefficient, and what a fair random draw would show. Standard library only.

Taught in: 04_who_gets_the_next_connection
"""

import functools
import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass


def gini(counts: Collection[int]) -> float:
    """0 where all have the same; (n - 1) / n where one of n has all. Nothing at all counts as even."""
    ordered, whole = sorted(counts), sum(counts)
    if not whole:
        return 0.0
    ranked = sum(rank * count for rank, count in enumerate(ordered, 1))
    return 2 * ranked / (len(ordered) * whole) - (len(ordered) + 1) / len(ordered)


@dataclass(frozen=True, slots=True)
class FairDraw:
    """What chance alone does. gini: on average; most: what 99 of 100 draws do not exceed; busiest: the same, of it."""

    gini: float
    most: float
    busiest: int


@functools.cache
def fair_draw(workers: int, connections: int, draws: int = 2000) -> FairDraw:
    """Each of `connections` falls to one of `workers` at random, all with the same chance; `draws` times."""
    chance = random.Random(4)
    drawn = [Counter(chance.choices(range(workers), k=connections)) for _ in range(draws)]
    counts = [[each[worker] for worker in range(workers)] for each in drawn]
    ginis, busiest = sorted(map(gini, counts)), sorted(map(max, counts))
    last = int(0.99 * draws)
    return FairDraw(sum(ginis) / draws, ginis[last], busiest[last])
