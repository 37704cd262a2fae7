"""The choice of running sequences that go back to the queue, so that others can go on. Pure functions.

- When blocks run out, the request with the most running sequences gives back the blocks of its newest one; if all have
  one each, it is the newest request. So the oldest sequence of all always goes on, and nobody starves.
- A request with nothing running and no free place takes one from the request with the most, if that has two or more:
  its newest goes back to the queue. A request never loses its last running sequence in this way.
- In this way a sequence is preempted only when it is twice as long as the last time. So recomputing the lost tokens
  costs in total no more than computing them once, however many requests come.
- A block that others use, too, does not become free when a sequence gives it back (blocks/trial.py).
"""

from typing import NamedTuple

from lab_support.engine.blocks.trial import Trial
from lab_support.engine.request import Parent, Sequence


class Room(NamedTuple):
    """Free places in a step, and free blocks beyond the one that is kept for each running sequence."""

    places: int
    blocks: int

    @property
    def enough(self) -> bool:
        return self.places >= 0 and self.blocks >= 0

    def less(self, blocks: int) -> "Room":
        """The room left by one more sequence that takes this many free blocks; one further block is kept for it."""
        return Room(self.places - 1, self.blocks - blocks - 1)

    def plus(self, blocks: int) -> "Room":
        """The room after one sequence has gone, by which this many blocks became free."""
        return Room(self.places + 1, self.blocks + blocks + 1)


def newest_of_largest(sequence: Sequence) -> tuple[int, int, int]:
    """A sort key, greatest for the newest sequence of the request with the most running."""
    return sequence.parent.running, sequence.parent.arrival, sequence.arrival


class GivingWay(NamedTuple):
    """The sequences to preempt, and the room that there is then."""

    victims: list[Sequence]
    room: Room


def giving_way(running: list[Sequence], room: Room, trial: Trial) -> GivingWay | None:
    """The sequences to preempt until `room` is enough: each the newest of the request with the most running at that
    point. None if that can't be enough.

    running: by arrival. trial: counts the users of blocks as they would be; the victims have gone there afterwards.
    """
    victims: list[Sequence] = []
    able = _able_to_give_way(running)
    counts = {sequence.parent: sequence.parent.running for sequence in able}
    while not room.enough:
        if not able:
            return None
        victim = max(able, key=lambda each: (counts[each.parent], each.parent.arrival, each.arrival))
        able.remove(victim)
        victims.append(victim)
        counts[victim.parent] -= 1
        room = room.plus(trial.give_back(victim.block_table))
    return GivingWay(victims, room)


def _able_to_give_way(running: list[Sequence]) -> list[Sequence]:
    """All except the oldest of each request, and those not yet twice as long as when they last gave way."""
    oldest: dict[Parent, Sequence] = {}
    for sequence in running:
        oldest.setdefault(sequence.parent, sequence)
    return [
        each for each in running if each is not oldest[each.parent] and len(each.token_ids) >= 2 * each.given_way_at
    ]
