"""Six grammars of short stories about children, animals and the things that they lose, give, hide, swap and carry.

Each returns a `Story`. Words that only the story so far can tell are marked (`cast.mark`).
"""
# ruff: noqa: E501 - a sentence stays on its line

from collections.abc import Callable
from dataclasses import dataclass

from data.model.make.cast import Being, Cast, mark, with_article


@dataclass(frozen=True, slots=True)
class Story:
    """`wish` finishes "Tell me a story about …"; `questions` are (question, answer) pairs that the text answers."""

    text: str
    wish: str
    questions: list[tuple[str, str]]


def lost_and_found(cast: Cast, hero: Being | None = None) -> Story:
    child = hero or cast.girl_or_boy()
    thing, there, elsewhere, friend = cast.thing(), cast.place(), cast.place(), cast.beast()
    noun = thing.split()[-1]
    text = " ".join(
        [
            _opening(cast, child),
            cast.pick(
                f"{child.They} had {with_article(thing)}, and {child.they} loved it more than anything else.",
                f"{child.Their} favourite thing in the world was {with_article(thing)}.",
                f"For {child.their} birthday {child.they} had been given {with_article(thing)}.",
                f"{child.They} owned only one toy, {with_article(thing)}, and took good care of it.",
            ),
            cast.pick(
                f"One {_day(cast)} {child.name} took it to the {there.noun} and stayed there until the sun went down.",
                f"One {_day(cast)} {child.they} played {there} with the {mark(thing)} until it was time for supper.",
                f"One {_day(cast)} {child.they} carried the {mark(thing)} to the {there.noun} and fell asleep there.",
            ),
            cast.pick(
                f"When {child.they} came home, the {mark(thing)} was gone.",
                f"At home {child.they} looked for the {mark(thing)}, but it was not in {child.their} bag.",
                f"Only in the evening did {child.they} see that the {mark(thing)} was missing.",
            ),
            cast.pick(
                f'"Oh no," said {mark(child.name)}. "Where is my {mark(noun)}?"',
                f"{child.name} sat down on the floor and cried.",
                f'"I have lost my {mark(thing)}," said {mark(child.name)}, and {child.their} voice was very small.',
            ),
            cast.pick(
                f"{_A(friend.kind)} named {friend.name} heard {child.them}.",
                f"Outside the window sat {with_article(friend.kind)} whose name was {friend.name}.",
                f"Then {child.their} friend {friend.name}, {with_article(friend.kind)}, came to the door.",
            ),
            cast.pick(
                f'"I will help you," said the {mark(friend.kind)}. "Two can look better than one."',
                f'"Do not be sad," said {mark(friend.name)}. "We will find it together."',
            ),
            cast.pick(
                f"First they looked {elsewhere}, but the {mark(thing)} was not there.",
                f"They went to the {elsewhere.noun} first. They found nothing {elsewhere.preposition} the "
                f"{mark(elsewhere.noun)} but leaves and dust.",
            ),
            cast.pick(
                f'"Where were you today?" asked {mark(friend.name)}. "I was {there.preposition} the {mark(there.noun)}," '
                f"said {mark(child.name)}.",
                f"Then {child.name} remembered that {child.they} had been {there.preposition} the {mark(there.noun)}.",
            ),
            cast.pick(
                f"So they ran to the {mark(there.noun)}, and there lay the {mark(thing)}.",
                f"They went back to the {mark(there.noun)}. Something was lying on the ground. It was the {mark(thing)}!",
            ),
            cast.pick(
                f'"Thank you, {mark(friend.name)}," said {mark(child.name)}, and they walked home together.',
                f"{child.name} was so happy that {child.they} hugged the {mark(friend.kind)}.",
                f"From that day on, {child.name} never forgot the {mark(thing)} again.",
                f"That night {child.name} slept well, with the {mark(thing)} beside {child.their} bed.",
            ),
        ]
    )
    return Story(
        text,
        f"{with_article(child.kind)} named {child.name} who loses {with_article(thing)}",
        [
            (f"What did {child.name} lose?", f"{child.name} lost the {mark(thing)}."),
            (f"Where was the {noun} found?", f"It was found {there.preposition} the {mark(there.noun)}."),
            (f"Who helped {child.name}?", f"{_A(friend.kind)} named {mark(friend.name)} helped {child.them}."),
            ("Where did they look first?", f"First they looked {elsewhere.preposition} the {mark(elsewhere.noun)}."),
        ],
    )


def gift(cast: Cast, hero: Being | None = None) -> Story:
    giver = hero or cast.girl_or_boy()
    thing, home, friend, helper = cast.thing(), cast.place(), cast.girl_or_boy(), cast.beast()
    text = " ".join(
        [
            _opening(cast, giver),
            cast.pick(
                f"{giver.Their} best friend was {with_article(friend.kind)} named {friend.name}, who lived {home}.",
                f"{giver.They} had a good friend. The friend was called {friend.name} and lived {home}.",
            ),
            cast.pick(
                f"It was {friend.name}'s birthday, so {giver.name} wrapped {with_article(thing)} in paper.",
                f"One {_day(cast)} {giver.name} made {with_article(thing)} as a gift for {mark(friend.name)}.",
                f"{friend.name} had been ill for a week, and {giver.name} wanted to bring {friend.them} "
                f"{with_article(thing)}.",
            ),
            cast.pick(
                f"Early in the morning {giver.they} set out for the {mark(home.noun)}.",
                f"{giver.They} put the {mark(thing)} into {giver.their} bag and started to walk to the {mark(home.noun)}.",
            ),
            cast.pick(
                "On the way it began to rain, and soon the path was under water.",
                "But the fog was thick, and soon there was no path to be seen.",
                "Halfway there a tall tree had fallen across the road.",
                "But the wind was so strong that walking was hard.",
            ),
            cast.pick(
                f"There {giver.they} met {with_article(helper.kind)} named {helper.name}.",
                f"Just then {with_article(helper.kind)} came out of the bushes. {helper.Their} name was {helper.name}.",
            ),
            cast.pick(
                f'"Where are you going?" asked the {mark(helper.kind)}. "To the {mark(home.noun)}," said {giver.name}. '
                f'"I have {with_article(thing)} for {mark(friend.name)}."',
                f'"What do you carry there?" asked {mark(helper.name)}. "The {mark(thing)} for my friend '
                f'{mark(friend.name)}," said {mark(giver.name)}.',
            ),
            cast.pick(
                f'"I know a better way," said {mark(helper.name)}. "Follow me."',
                f'"Then let me help you," said the {mark(helper.kind)}, and {helper.they} went ahead.',
            ),
            cast.pick(
                f"Together they came to the {mark(home.noun)} before noon.",
                f"An hour later they stood {home.preposition} the {mark(home.noun)}, wet but happy.",
            ),
            cast.pick(
                f"{friend.name} opened the door, and {giver.name} gave {friend.them} the {mark(thing)}.",
                f'"This is for you," said {mark(giver.name)}, and held out the {mark(thing)}.',
            ),
            cast.pick(
                f'"Thank you, {mark(giver.name)}," said {mark(friend.name)}. "It is just what I wanted."',
                f"{friend.name} laughed with joy, and the three of them, {giver.name}, {friend.name} and "
                f"{mark(helper.name)}, drank hot tea.",
            ),
            cast.pick(
                f"In the evening {giver.name} told {giver.their} mother about the {mark(helper.kind)} who knew the way.",
                f"And {helper.name} the {mark(helper.kind)} was their friend from then on.",
                f"The {mark(thing)} stood by {friend.name}'s window for many years.",
            ),
        ]
    )
    return Story(
        text,
        f"{with_article(giver.kind)} named {giver.name} who brings {with_article(thing)} to a friend",
        [
            (f"What did {giver.name} give to {friend.name}?", f"{giver.name} gave {friend.them} the {mark(thing)}."),
            (f"Where did {friend.name} live?", f"{friend.name} lived {home.preposition} the {mark(home.noun)}."),
            (
                f"Whom did {giver.name} meet on the way?",
                f"{giver.name} met {with_article(helper.kind)} named {mark(helper.name)}.",
            ),
            ("Who got the gift?", f"{mark(friend.name)} got it."),
        ],
    )


def hiding_places(cast: Cast, hero: Being | None = None) -> Story:
    people = [
        hero or cast.girl_or_boy(),
        cast.girl_or_boy(),
        *([cast.girl_or_boy()] if cast.random.random() < 0.5 else []),
    ]
    hidden = [(person, cast.thing(), cast.place()) for person in people]
    names = _list([person.name for person in people])
    number = {2: "two", 3: "three"}[len(people)]
    lines = [
        cast.pick(
            f"{names} played a game on a long {_day(cast)}.",
            f"One {_day(cast)} {names} wanted to know who could hide things best.",
            f"There were once {number} friends, {names}, who liked to hide things.",
        )
    ]
    for person, thing, place in hidden:
        lines.append(
            cast.pick(
                f"{person.name} put {with_article(thing)} {place}.",
                f"{person.name} hid {with_article(thing)} {place}.",
                f"{person.name} took {with_article(thing)} to the {place.noun} and left it there.",
            )
        )
    lines.append(
        cast.pick(
            "Then they all went home to eat.",
            "Then the rain came, and they waited in the house.",
            "They slept for a night.",
        )
    )
    cast.random.shuffle(hidden)
    for person, thing, place in hidden:
        lines.append(
            cast.pick(
                f"Later {person.name} went back to the {mark(place.noun)} and found the {mark(thing)}.",
                f"The {thing} was still {place.preposition} the {mark(place.noun)}, where {mark(person.name)} had left it.",
                f"{person.name} ran to the {mark(place.noun)} and came back with the {mark(thing)}.",
                f"Who had been {place}? It was {mark(person.name)}, and so {person.they} brought back the {mark(thing)}.",
            )
        )
    lines.append(
        cast.pick(
            "Nothing was lost, and everybody was content.",
            f"So the {number} of them had everything back, and the game was over.",
            "They laughed and said that they would play again the next day.",
        )
    )
    person, thing, place = cast.random.choice(hidden)
    other = next(each for each in hidden if each[0] is not person)
    return Story(
        " ".join(lines),
        f"{names} who hide things",
        [
            (f"Where was the {thing}?", f"The {thing} was {place.preposition} the {mark(place.noun)}."),
            (f"Who hid the {thing}?", f"{mark(person.name)} hid the {thing}."),
            (f"What was {other[2]}?", f"The {mark(other[1])} was {other[2]}."),
            (f"What did {person.name} hide?", f"{person.name} hid the {mark(thing)}."),
        ],
    )


def swap(cast: Cast, hero: Being | None = None) -> Story:
    one = hero or cast.girl_or_boy()
    other, first, second, place = cast.girl_or_boy(), cast.thing(), cast.thing(), cast.place()
    text = " ".join(
        [
            cast.pick(
                f"{one.name} had {with_article(first)}, and {other.name} had {with_article(second)}.",
                f"{other.name} was {with_article(other.kind)} with {with_article(second)}. {one.name} was "
                f"{with_article(one.kind)} with {with_article(first)}.",
            ),
            cast.pick(f"One {_day(cast)} they met {place}.", f"They met {place} on a quiet {_day(cast)}."),
            cast.pick(
                f'"I like your {second}," said {one.name}. "I like your {mark(first)}," said {mark(other.name)}.',
                f"{one.name} looked at the {mark(second)} for a long time. {other.name} looked at the {mark(first)}.",
            ),
            cast.pick('"Shall we swap?" they asked at the same time.', '"Let us change," they said, and laughed.'),
            cast.pick(
                f"So {one.name} gave the {mark(first)} to {mark(other.name)}, and {mark(other.name)} gave the "
                f"{mark(second)} to {mark(one.name)}.",
                f"So {other.name} gave the {mark(second)} to {mark(one.name)}, and {mark(one.name)} gave the "
                f"{mark(first)} to {mark(other.name)}.",
            ),
            cast.pick(
                f"Now {one.name} had the {mark(second)} and {mark(other.name)} had the {mark(first)}.",
                f"From then on the {second} belonged to {mark(one.name)}, and the {mark(first)} belonged to {mark(other.name)}.",
            ),
            cast.pick(
                f"They walked home from the {mark(place.noun)}, and both of them were sure that they had made the better swap.",
                f"Whenever they came to the {mark(place.noun)} again, they thought of that day.",
                "A fair swap makes two people happy.",
            ),
        ]
    )
    return Story(
        text,
        f"{one.name} and {other.name} who swap their things",
        [
            (f"What did {one.name} have in the end?", f"In the end {one.name} had the {mark(second)}."),
            (f"What did {other.name} have in the end?", f"In the end {other.name} had the {mark(first)}."),
            ("Where did they meet?", f"They met {place.preposition} the {mark(place.noun)}."),
            (f"Who had the {first} at first?", f"At first {mark(one.name)} had the {first}."),
        ],
    )


def errand(cast: Cast, hero: Being | None = None) -> Story:
    child = hero or cast.girl_or_boy()
    first, second, third, shop = cast.thing(), cast.thing(), cast.thing(), cast.place()
    text = " ".join(
        [
            _opening(cast, child),
            cast.pick(
                f"One {_day(cast)} {child.their} mother sent {child.them} to the {shop.noun} to fetch three things: "
                f"{with_article(first)}, {with_article(second)} and {with_article(third)}.",
                f'"Please go to the {shop.noun}," said {child.their} grandmother, "and bring me {with_article(first)}, '
                f'{with_article(second)} and {with_article(third)}."',
            ),
            cast.pick(
                f'All the way {child.name} said to {_self(child)}, "The {mark(first)}, the {mark(second)} and the {mark(third)}."',
                f"{child.name} did not write it down, for {child.they} had a good memory.",
                f'"The {mark(first)}, the {mark(second)}, the {mark(third)}," said {mark(child.name)}, so as not to forget.',
            ),
            cast.pick(
                f"{shop.preposition.capitalize()} the {mark(shop.noun)} an old man was waiting.",
                f"There was nobody {shop.preposition} the {mark(shop.noun)} but an old woman with a cart.",
            ),
            cast.pick(
                f"First {child.they} asked for the {mark(first)}, then for the {mark(second)}, and last for the {mark(third)}.",
                f"{child.They} got the {mark(first)} and the {mark(second)} at once, but {child.they} had to wait for the "
                f"{mark(third)}.",
            ),
            cast.pick(
                f"{child.name} carried everything home from the {mark(shop.noun)} and put it on the table.",
                f"Then {child.they} walked home from the {mark(shop.noun)}, slowly, because the bag was heavy.",
            ),
            cast.pick(
                f"Out of the bag came the {mark(first)}, the {mark(second)} and the {mark(third)}.",
                f"Nothing was missing: there were the {mark(first)}, the {mark(second)} and the {mark(third)}.",
            ),
            cast.pick(
                f'"Well done, {mark(child.name)}," said the old lady next door, who had seen it all.',
                f"And {mark(child.name)} got a piece of cake.",
                f"{child.name} was proud, and rightly so.",
            ),
        ]
    )
    return Story(
        text,
        f"{with_article(child.kind)} named {child.name} who fetches three things",
        [
            (f"Where was {child.name} sent?", f"{child.name} was sent to the {mark(shop.noun)}."),
            (
                f"Which three things did {child.name} fetch?",
                f"{child.name} fetched the {mark(first)}, the {mark(second)} and the {mark(third)}.",
            ),
        ],
    )


def secret_word(cast: Cast, hero: Being | None = None) -> Story:
    child = hero or cast.girl_or_boy()
    teacher, word, place, thing = cast.beast(), cast.word(), cast.place(), cast.thing()
    text = " ".join(
        [
            _opening(cast, child),
            cast.pick(
                f"{place.preposition.capitalize()} the {place.noun} there was a small door that nobody could open.",
                f"Everybody knew about the locked door {place}, but nobody had the key.",
            ),
            cast.pick(
                f"One {_day(cast)} an old {teacher.kind} named {teacher.name} told {child.them} the secret.",
                f"One {_day(cast)} {child.they} shared {child.their} bread with {with_article(teacher.kind)} named "
                f"{teacher.name}, and {teacher.name} told {child.them} a secret.",
            ),
            cast.pick(
                f'"Say {word}, and the door will open," said the {mark(teacher.kind)}.',
                f'"The word is {word}," said {mark(teacher.name)}. "Do not forget it."',
            ),
            cast.pick(
                f"{child.name} ran to the {mark(place.noun)} as fast as {child.they} could.",
                f'"{mark(word)}, {mark(word)}," said {mark(child.name)} on the way to the {mark(place.noun)}.',
            ),
            cast.pick(
                f'{child.They} stood in front of the door and called, "{mark(word)}!"',
                f'In front of the door {child.they} took a deep breath. "{mark(word)}," {child.they} said.',
            ),
            cast.pick(
                f"The door opened without a sound, and behind it stood {with_article(thing)}.",
                f"With a soft click the door opened. Inside lay {with_article(thing)}.",
            ),
            cast.pick(
                f"{child.name} took the {mark(thing)} and showed it to {mark(teacher.name)}.",
                f'"The {mark(thing)} is yours," said {mark(teacher.name)}. "You kept the word."',
            ),
            cast.pick(
                f"And the word {mark(word)} stayed a secret between {child.name} and {mark(teacher.name)}.",
                f"Even when {child.they} was old, {child.name} still knew the word {mark(word)}.",
                f"The door {place.preposition} the {mark(place.noun)} has been open ever since.",
            ),
        ]
    )
    return Story(
        text,
        f"{with_article(child.kind)} named {child.name} and a secret word",
        [
            ("What was the secret word?", f"The secret word was {mark(word)}."),
            ("What was behind the door?", f"Behind the door was the {mark(thing)}."),
            (
                f"Who told {child.name} the word?",
                f"{_A(teacher.kind)} named {mark(teacher.name)} told {child.them} the word.",
            ),
            ("Where was the door?", f"The door was {place.preposition} the {mark(place.noun)}."),
        ],
    )


STORIES: list[Callable[..., Story]] = [lost_and_found, gift, hiding_places, swap, errand, secret_word]


def _opening(cast: Cast, who: Being) -> str:
    return cast.pick(
        f"Once upon a time there was {with_article(who.kind)} named {who.name}.",
        f"Once upon a time, {with_article(who.kind)} named {who.name} lived {cast.pick('in a small house', 'near the sea', 'at the edge of a town', 'in a quiet village')}.",
        f"There once lived {with_article(who.kind)} whose name was {who.name}.",
        f"{who.name} was a {cast.pick('brave', 'kind', 'clever', 'quiet', 'cheerful', 'curious')} little {who.kind}.",
        f"In a village far away lived {with_article(who.kind)} called {who.name}.",
        f"This is the story of a {who.kind} named {who.name}.",
    )


def _day(cast: Cast) -> str:
    return cast.pick(
        "sunny day", "cold morning", "summer afternoon", "windy day", "winter evening", "Sunday", "rainy day"
    )


def _self(who: Being) -> str:
    return {"she": "herself", "he": "himself", "it": "itself"}[who.they]


def _list(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def _A(words: str) -> str:
    return with_article(words).capitalize()
