"""Writes mixed.jsonl: 400 prompts of about 5 to 1,000 tokens for load tests, with a long tail, all seeded.

`python -m data.prompts.make_prompts` from the root of the repository. The texts come from the held-out half of the
grammar that made the model's corpus (`data/model/make/`), so none of them was trained on. A line has `max_tokens`
and either `prompt` (completions) or `messages` (chat); there are no stop strings, so an answer ends at the end
token or at `max_tokens`.
"""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from data.model.make import answers
from data.model.make.cast import Cast
from data.model.make.corpus import a_story, chain, unmarked

FOLDER = Path(__file__).resolve().parent
SEED, COUNT, CHAT_SHARE = 400_001, 400, 0.4
PROMPT_MEDIAN, PROMPT_SPREAD, PROMPT_LEAST, PROMPT_MOST = 70, 1.1, 5, 1000
OUTPUT_MEDIAN, OUTPUT_SPREAD, OUTPUT_LEAST, OUTPUT_MOST = 40, 0.8, 4, 256

Message = dict[str, str]
Measure = Callable[[str], int]


def long_tailed(random_source: random.Random, median: int, spread: float, least: int, most: int) -> int:
    """A log-normal whole number: half of them below `median`, a few far above."""
    return round(min(most, max(least, random_source.lognormvariate(math.log(median), spread))))


def completion(random_source: random.Random, tokens: int, measure: Measure) -> str:
    """The beginning of a held-out chain of stories, cut after a word so that it has at most about `tokens` tokens."""
    text = unmarked(chain(Cast(random_source, held_out=True), 1 + tokens // 150))
    words = text.split(" ")
    while measure(" ".join(words)) > tokens and len(words) > 3:
        words = words[: max(3, int(len(words) * tokens / measure(" ".join(words))))]
    return " ".join(words)


def chat(random_source: random.Random, tokens: int, measure: Measure) -> list[Message]:
    """A question alone, a conversation of several turns, or a long text with a question about it."""
    if tokens < 30:
        return [_user(answers.about_a_topic(random_source)[0])]
    if tokens < 150:
        return _conversation(random_source, tokens, measure)
    told = [a_story(Cast(random_source, held_out=True)) for _ in range(max(1, tokens // 200))]
    text = "\n\n".join(unmarked(story.text) for story in told)
    return [_user(f"{text}\n\n{random_source.choice(told[0].questions)[0]}")]


def _conversation(random_source: random.Random, tokens: int, measure: Measure) -> list[Message]:
    messages: list[Message] = []
    while sum(measure(each["content"]) for each in messages) < tokens - 30:
        question, answer = answers.about_a_topic(random_source)
        messages += [_user(question), {"role": "assistant", "content": answer}]
    return [*messages, _user(answers.with_an_answer_of_its_own(random_source)[0])]


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def lines(tokenizer: Tokenizer) -> list[dict[str, object]]:
    random_source = random.Random(SEED)

    def measure(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    made: list[dict[str, object]] = []
    for _ in range(COUNT):
        tokens = long_tailed(random_source, PROMPT_MEDIAN, PROMPT_SPREAD, PROMPT_LEAST, PROMPT_MOST)
        most = long_tailed(random_source, OUTPUT_MEDIAN, OUTPUT_SPREAD, OUTPUT_LEAST, OUTPUT_MOST)
        if random_source.random() < CHAT_SHARE:
            made.append({"messages": chat(random_source, tokens, measure), "max_tokens": most})
        else:
            made.append({"prompt": completion(random_source, tokens, measure), "max_tokens": most})
    return made


def main() -> None:
    tokenizer = Tokenizer.from_file(str(FOLDER.parent / "model" / "tokenizer.json"))
    text = "".join(json.dumps(line) + "\n" for line in lines(tokenizer))
    (FOLDER / "mixed.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
