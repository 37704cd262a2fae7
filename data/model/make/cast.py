"""Who and what can be in a story: people, animals, things, places, processes and ports, and the held-out rule.

Every name and every thing belongs to one of eight classes. A pair whose two classes add up to a multiple of
eight never meets in a training story, and in a held-out story only such pairs meet. So the test asks for
combinations that the model has never seen, made of words that it has.
"""
# ruff: noqa: SIM905 - lists of words read better so

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

GIRLS = """Mira Anna Lena Nora Ida Vera Zoe Ella Mia Lucy Rosa Clara Emma Greta Hanna Iris Julia Kira Lily Maya Nina
Olga Paula Ruth Sara Tessa Una Alice Bella Dora""".split()
BOYS = """Leo Tom Ben Max Finn Paul Oskar Noah Jonas Karl Lukas Emil Anton Felix Hugo Ivan Jakob Milo Nils Otto Peter
Robin Simon Theo Victor Adam Bruno David Erik Sam""".split()
BEASTS = "fox owl bear hare mouse cat dog hedgehog squirrel duck goose turtle badger frog crow".split()
COLOURS = """red blue green yellow white black purple orange brown grey small big old new tiny silver golden striped
painted shiny""".split()
NOUNS = """kite ball boat drum key lantern bell cup basket box spoon flute whistle button coin ring clock compass mirror
comb brush bucket hammer chair pencil train doll star umbrella hat kettle jar bottle wheel crown marble puzzle lamp
bowl plate flag trumpet map book wagon""".split()
PLACES = [
    *[("in", noun) for noun in "garden forest attic kitchen barn library meadow cellar valley orchard cave".split()],
    *[("at", noun) for noun in "mill market school harbour station bakery".split()],
    *[("on", noun) for noun in "hill beach roof island".split()],
    *[("by", noun) for noun in "river lake pond well".split()],
    *[("under", noun) for noun in ["old bridge", "apple tree"]],
    *[("behind", noun) for noun in ["stone wall", "church"]],
]
PROCESSES = """Pip Dot Bit Nib Tick Echo Spool Patch Relay Byte Ping Loop Fern Moss Rune Quill Ember Pebble Sprig Flint
Cedar Maple Comet Pixel Socks Wren Finch Thimble Juno Orbit Beacon Marlin Sable Tern""".split()
MACHINES = """Juniper Harvest Granite Willow Summit Meadow Cobalt Walnut Aurora Glacier Saturn Neptune Copper Basalt
Lagoon Prairie""".split()
WISHES = [
    f"{what} about the {topic}"
    for what in ("a poem", "a story", "a song", "a joke", "a letter", "a riddle")
    for topic in "rain moon sea wind snow sun stars river clouds night summer winter mountain garden".split()
]
ONSETS = "b d f g h j k l m n p r s t v w z br dr tr".split()


@dataclass(frozen=True, slots=True)
class Being:
    """Somebody with a name and the right pronouns, such as Mira, "girl", she, her, her."""

    name: str
    kind: str
    they: str
    them: str
    their: str

    @property
    def They(self) -> str:
        return self.they.capitalize()

    @property
    def Their(self) -> str:
        return self.their.capitalize()


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is: "in" and "garden"."""

    preposition: str
    noun: str

    def __str__(self) -> str:
        return f"{self.preposition} the {self.noun}"


def with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def mark(answer: object) -> str:
    """Mark words that only the story so far can tell; the corpus drops the marks and the evaluation asks there."""
    return f"\x01{answer}\x02"


def word_class(word: str) -> int:
    return zlib.crc32(word.encode()) % 8


class Cast:
    """Draws from the lists, never twice the same within a story, and keeps to the held-out rule."""

    def __init__(self, random_source: random.Random, held_out: bool = False) -> None:
        self.random = random_source
        self.held_out = held_out
        self._names: set[int] = set()
        self._things: set[int] = set()
        self._used: set[str] = set()

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def girl_or_boy(self) -> Being:
        if self.random.random() < 0.5:
            return Being(self._name(GIRLS), "girl", "she", "her", "her")
        return Being(self._name(BOYS), "boy", "he", "him", "his")

    def beast(self) -> Being:
        kind = self._unused(lambda: self.random.choice(BEASTS))
        they, them, their = self.random.choice([("she", "her", "her"), ("he", "him", "his")])
        return Being(self._name(GIRLS if they == "she" else BOYS), kind, they, them, their)

    def process(self) -> Being:
        return Being(self._name(PROCESSES), "process", "it", "it", "its")

    def machine(self) -> str:
        return self._unused(lambda: self.random.choice(MACHINES))

    def thing(self) -> str:
        return self._thing(lambda: f"{self.random.choice(COLOURS)} {self.random.choice(NOUNS)}")

    def wish(self) -> str:
        return self._thing(lambda: self.random.choice(WISHES))

    def port(self) -> str:
        common = ("8000", "8080", "3000", "5000", "443", "80", "9000", "8888")
        return self._thing(
            lambda: self.random.choice(common) if self.random.random() < 0.2 else str(self.random.randint(1024, 65535))
        )

    def place(self) -> Place:
        place = self._unused(lambda: self.random.choice(PLACES))
        return Place(*place)

    def word(self) -> str:
        """A word that nobody has ever heard, such as Velomi."""
        return self._unused(lambda: self._invented().capitalize())

    def _invented(self) -> str:
        syllables = self.random.choice((2, 2, 3))
        return "".join(self.random.choice(ONSETS) + self.random.choice("aeiou") for _ in range(syllables))

    def _name(self, names: list[str]) -> str:
        def draw() -> str:
            return self._invented().capitalize() if self.random.random() < 0.2 else self.random.choice(names)

        name = self._unused(lambda: self._agreeing(draw, self._things, self._names))
        self._names.add(word_class(name))
        return name

    def _thing(self, draw: Callable[[], str]) -> str:
        thing = self._unused(lambda: self._agreeing(draw, self._names, self._things))
        self._things.add(word_class(thing))
        return thing

    def _agreeing(self, draw: Callable[[], str], others: set[int], own: set[int]) -> str:
        """Draw until the word may meet all that it would meet. A held-out story keeps to one class of each side."""
        while True:
            word = draw()
            meets = {(word_class(word) + other) % 8 == 0 for other in others}
            if self.held_out:
                if False not in meets and (not own or word_class(word) in own):
                    return word
            elif True not in meets and len(own | {word_class(word)}) <= 6:
                return word

    def _unused(self, draw: Callable[[], object]):  # type: ignore[no-untyped-def]
        while (drawn := draw()) in self._used:
            pass
        self._used.add(drawn)  # type: ignore[arg-type]
        return drawn
