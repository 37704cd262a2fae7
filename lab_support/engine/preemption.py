"""Who gives way: which running sequences go back to the queue, so that others get on. Pure functions.

- When blocks run out, the request that has most sequences running gives back the blocks of its newest one; where all
  have one each, it is the newest request. So the oldest sequence of all always gets on, and nobody starves.
- A request with nothing running that finds no place takes one from the request that has most, if that has two or
  more: its newest goes back to the queue. The last sequence of a request never has to give way like that.
- A sequence gives way so only when it is twice as long as when it last did: recomputing what is lost costs no more,
  all in all, than it cost to compute it once, however many requests come.
"""

from typing import NamedTuple

from lab_support.engine.request import Parent, Sequence


class Room(NamedTuple):
    """Free places in a step, and free blocks beyond the one that is kept for each running sequence."""

    places: int
    blocks: int

    @property
    def enough(self) -> bool:
        return self.places >= 0 and self.blocks >= 0

    def less(self, blocks: int) -> "Room":
        """With one more sequence of so many blocks, which the next one has to leave a further block."""
        return Room(self.places - 1, self.blocks - blocks - 1)

    def plus(self, blocks: int) -> "Room":
        return Room(self.places + 1, self.blocks + blocks + 1)


def newest_of_largest(sequence: Sequence) -> tuple[int, int, int]:
    """A key, greatest for the newest sequence of the request that has most running."""
    return sequence.parent.running, sequence.parent.arrival, sequence.arrival


def giving_way(running: list[Sequence], room: Room) -> list[Sequence] | None:
    """Those that make `room` enough: newest ones, each of the request that then has most. None: it can't be.

    running: by arrival.
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
        room = room.plus(len(victim.block_table))
    return victims


def _able_to_give_way(running: list[Sequence]) -> list[Sequence]:
    """All but the oldest of each request, and but those that have just given way."""
    oldest: dict[Parent, Sequence] = {}
    for sequence in running:
        oldest.setdefault(sequence.parent, sequence)
    return [
        each for each in running if each is not oldest[each.parent] and len(each.token_ids) >= 2 * each.given_way_at
    ]
