"""Events of a process tree, found by comparing looks: births, names, stops, ends, and who takes whose place.

Pure: it reads nothing. Times are seconds on the clock of `time.time`, for people.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lab_support.instruments.proc import Identity
from lab_support.plural import counted
from lab_support.watch.looks import Look
from lab_support.watch.members import Member, in_words

BIRTH, NAME, END, STOP, GO_ON, ROLL, SENT, NOTE = "birth", "name", "end", "stop", "go on", "roll", "sent", "note"
_SUCCESSION = 60.0  # seconds in which a process of the same name counts as a successor


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in one sentence. pid: of the process that it happened to, 0 if to none of them."""

    at: float
    kind: str
    pid: int
    words: str


@dataclass(slots=True)
class _Life:
    """One process as far as it was seen. born: None if it was there at the first look.

    follows, followed: it has taken another's place; another has taken its place.
    """

    member: Member
    born: float | None
    stopped: bool = False
    ended: float | None = None
    follows: bool = False
    followed: bool = False


@dataclass(slots=True)
class Chronicle:
    """Compares each look with the one before. One object for each watch."""

    _lives: dict[Identity, _Life] = field(default_factory=dict)

    def update(self, look: Look, statuses: dict[Identity, int | None], now: float) -> list[Event]:
        """The events since the last look. statuses: the wait status of those that have ended, where it is known."""
        first = not self._lives
        present = {member.identity: member for member in look.running}
        events = list(self._ends(present, look, statuses, now))
        if first and present:
            events.append(Event(now, NOTE, 0, f"{counted(len(present), 'process')} at the first look"))
        for identity, member in present.items():
            if identity not in self._lives:
                self._lives[identity] = _Life(member, None if first else now)
                events += [] if first else self._birth(member, now)
            events += self._changes(self._lives[identity], member, now)
        return events

    def _ends(
        self, present: dict[Identity, Member], look: Look, statuses: dict[Identity, int | None], now: float
    ) -> Iterator[Event]:
        zombies = {member.identity: member.stat.ended_with for member in look.members if member.ended}
        for identity, life in self._lives.items():
            if life.ended is None and identity not in present:
                life.ended = now
                how = in_words(statuses.get(identity, zombies.get(identity)))
                yield Event(now, END, identity.pid, " ".join(filter(None, [_called(life.member), "ended", how])))
                if (heir := self._heir(life)) is not None:
                    life.followed = True
                    words = f"{_called(heir.member)} goes on in the place of {life.member.pid}"
                    yield Event(now, ROLL, heir.member.pid, words)

    def _heir(self, gone: _Life) -> _Life | None:
        """A process of the same name that was born while `gone` still ran, and has taken nobody's place."""
        for life in self._lives.values():
            young = life.born is not None and gone.ended is not None and gone.ended - life.born < _SUCCESSION
            if young and life.ended is None and not life.follows and life.member.name == gone.member.name:
                life.follows = True
                return life
        return None

    def _birth(self, member: Member, now: float) -> list[Event]:
        return [Event(now, BIRTH, member.pid, f"{_called(member)} was born"), *self._succession(member, now)]

    def _changes(self, life: _Life, member: Member, now: float) -> Iterator[Event]:
        """A new title, a stop, the end of a stop."""
        if member.name != life.member.name:
            yield Event(now, NAME, member.pid, f"{life.member.name} ({member.pid}) is now called {member.name}")
            if life.born is not None:
                yield from self._succession(member, now)
        life.member = member
        stopped = member.stat.state == "T"
        if stopped != life.stopped:
            life.stopped = stopped
            yield Event(
                now, STOP if stopped else GO_ON, member.pid, f"{_called(member)} {'is stopped' if stopped else 'goes on'}"
            )

    def _succession(self, member: Member, now: float) -> list[Event]:
        """A new process has the name of one that ended a moment ago."""
        for life in self._lives.values():
            recent = life.ended is not None and now - life.ended < _SUCCESSION
            if recent and not life.followed and life.member.name == member.name and not self._lives[member.identity].follows:
                life.followed = self._lives[member.identity].follows = True
                after = now - (life.ended or now)
                words = f"{_called(member)} takes the place of {life.member.pid}, which ended {after:.1f} s before"
                return [Event(now, ROLL, member.pid, words)]
        return []


def _called(member: Member) -> str:
    return f"{member.name} ({member.pid})"
