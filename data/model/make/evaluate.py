"""Measures a model folder: recall of named things, validation loss, and samples to read.

`python -m data.model.make.evaluate [--folder DIR] [--prompts N]` prints a line for people and, last, one JSON line.

A prompt is a held-out story (or a held-out story with a question, as a chat) cut off where only the story so far
tells what comes: "So Lucy gave the", and the right continuation is " white hat". It counts as recalled if greedy
decoding gives exactly these tokens and then something that does not prolong the last word. This is read off one
forward pass over prompt and answer: the answer is what greedy decoding gives if and only if each of its tokens is
the best one after those before it.
"""

import argparse
import itertools
import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from data.model.make import machine_stories, stories
from data.model.make.cast import Cast
from data.model.make.corpus import as_turn, documents, unmarked
from data.model.make.stories import Story

FOLDER = Path(__file__).resolve().parent.parent
GRAMMARS = [*stories.STORIES, *machine_stories.STORIES]
SEED = 203_311
SAMPLE_PROMPTS = [
    "Once upon a time there was a girl named Mira.",
    "Once upon a time, a small process named Pip was started. It waited at port 8123",
    "A socket is",
]
SAMPLE_CHATS = [
    "What is an accept queue?",
    "What is the difference between fork and spawn?",
    "Tell me a story about a small process named Nib who waits at a port.",
    "What is the capital of France?",
]


@dataclass(frozen=True, slots=True)
class RecallPrompt:
    grammar: str
    form: str
    text: str
    answer: str


def recall_prompts(count: int, seed: int = SEED) -> list[RecallPrompt]:
    """`count` prompts, the same for the same seed: every grammar in turn, as a story and as a chat."""
    random_source = random.Random(seed)
    forms = itertools.cycle(itertools.product(["story", "chat"], GRAMMARS))
    prompts = []
    for form, grammar in itertools.islice(forms, count):
        story = grammar(Cast(random_source, held_out=True))
        text = story.text if form == "story" else _as_chat(story, random_source)
        prompts.append(RecallPrompt(grammar.__name__, form, *_cut(text, random_source)))
    return prompts


def _as_chat(story: Story, random_source: random.Random) -> str:
    question, answer = random_source.choice(story.questions)
    return as_turn(f"{unmarked(story.text)}\n\n{question}", answer)


def _cut(text: str, random_source: random.Random) -> tuple[str, str]:
    """Cut at one of the marks; not at one that begins a sentence of a story, where other words could stand too."""
    marks = [each for each in re.finditer("\x01(.*?)\x02", text) if not re.search(r'[.!?]"? "?$', text[: each.start()])]
    chosen = random_source.choice(marks)
    prompt, answer = unmarked(text[: chosen.start()]), chosen[1]
    if prompt.endswith(" "):
        prompt, answer = prompt[:-1], " " + answer
    return prompt, answer


@torch.inference_mode()
def recalled(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: RecallPrompt, before: str = ""
) -> bool:
    prompt_ids = tokenizer(before + prompt.text)["input_ids"]
    answer_ids = tokenizer(prompt.answer)["input_ids"]
    best = model(torch.tensor([prompt_ids + answer_ids])).logits[0, len(prompt_ids) - 1 :].argmax(-1).tolist()
    after = tokenizer.decode(best[-1])
    return best[:-1] == answer_ids and not after[:1].isalnum()


def shares(results: list[tuple[str, bool]]) -> dict[str, float]:
    """Share of `True` by label."""
    by_label: dict[str, list[bool]] = {}
    for label, result in results:
        by_label.setdefault(label, []).append(result)
    return {label: round(sum(each) / len(each), 3) for label, each in sorted(by_label.items())}


def other_text(tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """About `tokens` tokens of other held-out documents, to stand before a prompt."""
    text = ""
    for document in documents(SEED + 2, held_out=True):
        text += document
        if len(tokenizer(text)["input_ids"]) >= tokens:
            return text
    raise AssertionError("documents() has no end")


@torch.inference_mode()
def validation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int) -> dict[str, float]:
    """Nats per token and bits per byte over `count` held-out documents, each read alone."""
    nats, tokens, size = 0.0, 0, 0
    for document in itertools.islice(documents(SEED + 1, held_out=True), count):
        ids = torch.tensor([tokenizer(document)["input_ids"]])
        nats += _nats(model(ids).logits[0, :-1], ids[0, 1:])
        tokens += ids.shape[1] - 1
        size += len(re.sub(r"<\|\w+\|>", "", document).encode())
    return {"loss": round(nats / tokens, 4), "bits_per_byte": round(nats / math.log(2) / size, 4)}


def _nats(logits: Tensor, targets: Tensor) -> float:
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()


def samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str]]:
    """(prompt, greedy continuation) of the prompts above."""
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": each}], add_generation_prompt=True, tokenize=False)
        for each in SAMPLE_CHATS
    ]
    for prompt in SAMPLE_PROMPTS + chats:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=220, do_sample=False)
        yield prompt, tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def measure(folder: Path, count: int) -> dict[str, Any]:
    """All figures of a folder, in float32 on the CPU."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = recall_prompts(count)
    results = [(prompt, recalled(model, tokenizer, prompt)) for prompt in prompts]
    far = other_text(1500, tokenizer)
    far_results = [recalled(model, tokenizer, prompt, before=far) for prompt in prompts[: max(1, count // 10)]]
    return {
        "recall": round(sum(result for _, result in results) / count, 4),
        "prompts": count,
        "by_form": shares([(prompt.form, result) for prompt, result in results]),
        "by_grammar": shares([(prompt.grammar, result) for prompt, result in results]),
        "recall_far": round(sum(far_results) / len(far_results), 4),
        "prompts_far": len(far_results),
        "validation": validation(model, tokenizer, count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--prompts", type=int, default=520)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured = measure(arguments.folder, arguments.prompts)
    print(f"{measured['recall']:.1%} of {measured['prompts']} held-out prompts recalled")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
