"""Mixes stories, chains of stories and chats into documents, all from one seed.

`python -m data.model.make.corpus` prints a few, so that they can be read.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from data.model.make import answers, machine_stories, stories
from data.model.make.cast import Cast
from data.model.make.stories import Story
from data.model.make.tokenizer import ASSISTANT, END, SYSTEM, USER

HARD = [
    *[stories.hiding_places] * 3,
    *[stories.swap] * 2,
    machine_stories.first_in_first_out,
    machine_stories.launcher_and_children,
    machine_stories.borrowed_blocks,
    machine_stories.handing_over,
]
SUBJECTS = [
    (stories.STORIES, ["a girl", "a boy", "a child", "an animal", "two friends", "children"]),
    (
        machine_stories.STORIES,
        ["a process", "a server", "a port", "a small process", "processes", "a socket", "a computer"],
    ),
]


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of kinds, each one added to those before it: of documents, then of the turns of a chat.

    `hard`: how often a story, told or asked about, is one of `HARD`. `questions`: how many of them about one story.
    """

    story: float = 0.40
    chain: float = 0.47
    explanation: float = 0.50
    topic: float = 0.42
    answer: float = 0.57
    small_talk: float = 0.65
    counting: float = 0.67
    story_on_demand: float = 0.80
    hard: float = 0.0
    questions: tuple[int, ...] = (1, 1, 2)


EVEN = Mix()
MANY_QUESTIONS = Mix(0.22, 0.27, 0.30, topic=0.25, answer=0.36, small_talk=0.42, counting=0.44, story_on_demand=0.54)
MANY_STORIES = Mix(0.45, 0.53, 0.56, topic=0.30, answer=0.42, small_talk=0.48, counting=0.50, story_on_demand=0.65)
MANY_HARD = Mix(
    *(0.28, 0.33, 0.36),
    topic=0.12,
    answer=0.18,
    small_talk=0.21,
    counting=0.22,
    story_on_demand=0.30,
    hard=0.6,
    questions=(1, 2, 3, 3),
)


def documents(seed: int, held_out: bool = False, marked: bool = False, mix: Mix = EVEN) -> Iterator[str]:
    """Documents without end, each closed by the end token. `marked` keeps the marks around what can be recalled."""
    random_source = random.Random(seed)
    while True:
        text = one_document(Cast(random_source, held_out), mix)
        yield text if marked else unmarked(text)


def unmarked(text: str) -> str:
    return text.replace("\x01", "").replace("\x02", "")


def one_document(cast: Cast, mix: Mix) -> str:
    kind = cast.random.random()
    if kind < mix.story:
        return a_story(cast, mix.hard).text + END
    if kind < mix.chain:
        return chain(cast, cast.random.choice((2, 2, 3, 4, 6))) + END
    if kind < mix.explanation:
        return explanation(cast) + END
    return chat(cast, mix)


def a_story(cast: Cast, hard: float = 0.0) -> Story:
    if hard and cast.random.random() < hard:
        return cast.random.choice(HARD)(cast)
    grammars = cast.random.choice([stories.STORIES, machine_stories.STORIES])
    return cast.random.choice(grammars)(cast)


def chain(cast: Cast, count: int) -> str:
    """Several stories of one hero, so that something can be remembered from far away."""
    grammars, hero = cast.random.choice(
        [(stories.STORIES, cast.girl_or_boy()), (machine_stories.STORIES, cast.process())]
    )
    told = [cast.random.choice(grammars)(cast, hero) for _ in range(count)]
    return "\n\n".join(story.text for story in told)


def explanation(cast: Cast) -> str:
    """One to four topics as running text."""
    topics = cast.random.sample(answers.TOPICS, cast.random.randint(1, 4))
    return "\n\n".join(answers.about_a_topic(cast.random, topic)[1] for topic in topics)


def chat(cast: Cast, mix: Mix) -> str:
    """One conversation of one to three turns, as the chat template writes it."""
    system = SYSTEM + cast.random.choice(answers.SYSTEM_PROMPTS) if cast.random.random() < 0.2 else ""
    return system + "".join(_turn(cast, mix) for _ in range(cast.random.choice((1, 1, 1, 2, 3))))


def as_turn(question: str, answer: str) -> str:
    return f"{USER}{question}{ASSISTANT}{answer}{END}"


def _turn(cast: Cast, mix: Mix) -> str:
    kind = cast.random.random()
    if kind < mix.topic:
        return as_turn(*answers.about_a_topic(cast.random))
    if kind < mix.answer:
        return as_turn(*answers.with_an_answer_of_its_own(cast.random))
    if kind < mix.small_talk:
        return as_turn(*answers.small_talk(cast.random))
    if kind < mix.counting:
        return as_turn(*answers.counting(cast.random))
    cast = Cast(cast.random, cast.held_out)
    return _story_on_demand(cast) if kind < mix.story_on_demand else _reading(cast, mix)


def _story_on_demand(cast: Cast) -> str:
    grammars, subjects = cast.random.choice(SUBJECTS)
    story = cast.random.choice(grammars)(cast)
    wish = story.wish if cast.random.random() < 0.7 else cast.pick(*subjects)
    if cast.random.random() < 0.1:
        return as_turn(
            cast.pick("Tell me a story.", "Tell me a story", "Please tell me a story.", "Write a story."), story.text
        )
    ask = cast.pick(
        "Tell me a story about",
        "Please tell me a story about",
        "Write a short story about",
        "I would like to hear about",
    )
    return as_turn(f"{ask} {wish}.", story.text)


def _reading(cast: Cast, mix: Mix) -> str:
    """A story, and some questions about it."""
    story = a_story(cast, mix.hard)
    count = min(cast.random.choice(mix.questions), len(story.questions))
    questions = cast.random.sample(story.questions, count)
    first, *rest = questions
    text = unmarked(story.text)
    asked = cast.pick(f"{text}\n\n{first[0]}", f"Read this story. {text}\n\n{first[0]}", f"{text} {first[0]}")
    return as_turn(asked, first[1]) + "".join(as_turn(*each) for each in rest)


if __name__ == "__main__":
    source = documents(seed=1)
    for _ in range(40):
        print(next(source), end="\n\n")
