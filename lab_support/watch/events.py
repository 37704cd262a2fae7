"""Events of a process tree, found by comparing looks: births, names, stops, ends, and who takes whose place.

Pure: it reads nothing. Times are seconds on the clock of `time.time`, for people.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lab_support.instruments.proc import Identity
from lab_support.plural import counted
from lab_support.watch.looks import Look
from lab_support.watch.members import Member, in_words

BIRTH, NAME, END, STOP, GO_ON, ROLL, SENT, NOTE = "birth", "name", "end", "stop", "go on", "roll", "sent", "note"
_RECENT = 60.0  # seconds in which another may take the place of one that has ended
_MOST_NAMES = 4  # of one process that are told: some change their titles with each request


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

    names: a few of those that it has had. follows: it has taken another's place; followed: another has taken its.
    """

    member: Member
    born: float | None
    stopped: bool = False
    ended: float | None = None
    names: list[str] = field(default_factory=list)
    follows: bool = False
    followed: bool = False

    def event(self, kind: str, words: str, now: float) -> Event:
        return Event(now, kind, self.member.pid, f"{self.member.name} ({self.member.pid}) {words}")


class Chronicle:
    """Compares each look with the one before. One object for each watch."""

    def __init__(self) -> None:
        self._lives: dict[Identity, _Life] = {}

    def update(self, look: Look, statuses: Mapping[Identity, int], now: float) -> list[Event]:
        """The events since the last look. statuses: the wait status of those that have ended, where it is known."""
        known = {member.identity: member.stat.ended_with for member in look.members if member.ended} | dict(statuses)
        present = {member.identity: member for member in look.running}
        first = not self._lives
        events = list(self._ends(present, known, now))
        if first and present:
            events.append(Event(now, NOTE, 0, f"{counted(len(present), 'process')} at the first look"))
        for identity, member in present.items():
            if identity not in self._lives:
                self._lives[identity] = _Life(member, None if first else now, names=[member.name])
                events += [] if first else self._birth(self._lives[identity], now)
            events += self._changes(self._lives[identity], member, now)
        self._lives = {one: life for one, life in self._lives.items() if not life.ended or life.ended > now - _RECENT}
        return events

    def _ends(
        self, present: Mapping[Identity, Member], statuses: Mapping[Identity, int | None], now: float
    ) -> Iterator[Event]:
        for identity, life in self._lives.items():
            if life.ended is None and identity not in present:
                life.ended = now
                how = in_words(statuses.get(identity))
                yield life.event(END, f"ended {how}".rstrip(), now)
                yield from self._heir(life, now)

    def _birth(self, life: _Life, now: float) -> Iterator[Event]:
        yield life.event(BIRTH, "was born", now)
        yield from self._succession(life, now)

    def _changes(self, life: _Life, member: Member, now: float) -> Iterator[Event]:
        """A title that a new process gives itself, a stop, the end of a stop."""
        before, life.member = life.member, member
        if member.name not in life.names and len(life.names) < _MOST_NAMES:
            life.names.append(member.name)
            yield Event(now, NAME, member.pid, f"{before.name} ({member.pid}) is now called {member.name}")
            if life.born is not None:
                yield from self._succession(life, now)
        stopped = member.stat.state == "T"
        if stopped != life.stopped:
            life.stopped = stopped
            yield life.event(STOP, "is stopped", now) if stopped else life.event(GO_ON, "goes on", now)

    def _heir(self, gone: _Life, now: float) -> Iterator[Event]:
        """A process of the same name was born while `gone` still ran, and has taken nobody's place."""
        for life in self._lives.values():
            young = life.born is not None and now - life.born < _RECENT
            if young and life.ended is None and not life.follows and life.member.name in gone.names:
                life.follows = gone.followed = True
                yield life.event(ROLL, f"goes on in the place of {gone.member.pid}", now)
                return

    def _succession(self, life: _Life, now: float) -> Iterator[Event]:
        """A new process has the name of one that ended a moment ago."""
        for gone in self._lives.values():
            if gone.ended and not gone.followed and not life.follows and life.member.name in gone.names:
                life.follows = gone.followed = True
                seconds = now - gone.ended
                words = f"takes the place of {gone.member.pid}, which ended {seconds:.1f} s before"
                yield life.event(ROLL, words, now)
