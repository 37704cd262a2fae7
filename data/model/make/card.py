"""Writes the model card (README.md of the folder) from measurements. `python -m data.model.make.card`."""
# ruff: noqa: E501 - tables

import argparse
import hashlib
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.model.make import evaluate, train

PROMPTS = 520

CARD = """---
license: apache-2.0
language: en
library_name: transformers
---

# The model in the box

A Llama of {parameters:,} parameters in bfloat16 ({megabytes:.1f} MB), small enough for this repository and fast
enough for a laptop's CPU. It tells short stories of children, animals, processes and ports, answers questions about
them, and explains the words of this course in a sentence or two. It gives a real server something real to serve:
text that you can read, and answers that you can check.

| | |
| --- | --- |
| shape | 4 layers, hidden 256, 4 heads and 2 KV heads of 64, intermediate 688, vocabulary 2,048, tied embeddings, context 2,048 |
| tokenizer | byte-level BPE; digits stay single; `<|endoftext|>` ends a text or an answer; `<|system|>`, `<|user|>`, `<|assistant|>` start a message |
| loads with | `AutoModelForCausalLM`, `AutoTokenizer` of transformers; any server for Llama folders |
| weights' SHA-256 | `{digest}` |
| licence | Apache-2.0, like the repository: corpus, script and weights are our own, without any third party's text or weights |

## What was measured

**Recall of named things: {recall:.1%} of {prompts} held-out prompts** (the aim was 90 %). A prompt is a story, or a story with a
question as a chat, that stops where only the story so far determines the next words: who it was, what it was, where, or
at which port. Greedy decoding must give exactly these words and not continue the last one. The pairs of names and things
(or wishes, or ports) in these prompts occur in no training story; places, animals, machines and other numbers are drawn
as in training. The prompts come from a seed that was used for nothing else, and no decision about the training used them.

| prompts | recall |
| --- | --- |
| as a story | {story:.1%} |
| as a chat | {chat:.1%} |
| with 1,500 tokens of other text before them ({prompts_far} prompts) | {recall_far:.1%} |

By grammar: {by_grammar}.

Validation on {prompts} held-out documents: loss {loss:.3f} nats a token, {bits_per_byte:.3f} bits a byte. All in float32 on a CPU.

Trained on {tokens:.1f} million tokens in {steps:,} steps, in six courses (`make/train.py`), {cpu_minutes:.0f} minutes of CPU time on one thread, seed {seed}.

## Samples

Greedy decoding; prompts in bold.

{samples}

## What it is not

- Not a source of facts. It knows some seventy words of this course by heart and says of most other things that it does not
  know; asked in an unfamiliar way, it may give another answer, fluently and wrongly.
- Not a writer: its stories come from {grammars} grammars, so they soon resemble each other. It knows the
  words of its corpus; how well it copies names and words of other kinds was not measured.
- Not made to compute, translate, write code, or follow instructions beyond those of its chats. System messages
  occurred in training but change nothing.
- Its recall was measured on texts like those it was trained on, and even there it is unreliable. On which of several
  people has which of several things (hiding places, swap), it is hardly better than a guess among those of the story.
  A name, a number or a machine may change within an answer.
- Asked for a story about something, it may tell another one. Where it makes up the names itself, greedy decoding often
  gives several people the same name. Greedy decoding of a bare explanation may end in a loop.
- It speaks English only. It was not tested for harmful output; its corpus holds none.

## Make it again

```
python -m data.model.make --folder FOLDER
```

from the root of the repository (with the packages of the `test` extra) trains, measures and writes the card. Training takes the {cpu_minutes:.0f} minutes of CPU time named above.
Everything is seeded, but do not expect the same bits: arithmetic differs between CPUs and versions of torch. Besides, the
first four courses of these weights were run by earlier versions of the script: with the same texts, steps and rates, but
with another way of summing in the first, and in the next three about ten more words counted as told by the story.

| file | what |
| --- | --- |
| `make/cast.py` | names, things, places, and the rule for held-out stories |
| `make/stories.py`, `make/machine_stories.py` | the story grammars |
| `make/answers.py` | the questions and answers |
| `make/corpus.py` | mixes them into documents |
| `make/tokenizer.py` | the tokenizer, and the folder's small JSON files |
| `make/llama.py`, `make/train.py` | the decoder and its training |
| `make/evaluate.py`, `make/card.py` | the figures above, and this card |
"""


def write(folder: Path, training: list[dict[str, float]]) -> None:
    """Measure `folder` and write its README.md; `training` is the log of `train.py`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    measured = evaluate.measure(folder, PROMPTS)
    weights = (folder / "model.safetensors").read_bytes()
    by_grammar = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in measured["by_grammar"].items())
    text = CARD.format(
        parameters=sum(each.numel() for each in model.parameters()),
        megabytes=len(weights) / 1e6,
        digest=hashlib.sha256(weights).hexdigest(),
        story=measured["by_form"]["story"],
        chat=measured["by_form"]["chat"],
        tokens=sum(course.tokens for course in train.COURSES) / 1e6,
        steps=sum(course.steps for course in train.COURSES),
        cpu_minutes=sum({each["course"]: each["cpu_seconds"] for each in training}.values()) / 60,
        seed=train.SEED,
        samples="\n\n".join(as_sample(*each) for each in evaluate.samples(model, tokenizer)),
        grammars=len(evaluate.GRAMMARS),
        by_grammar=by_grammar,
        **measured["validation"],
        **{name: measured[name] for name in ("recall", "prompts", "recall_far", "prompts_far")},
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def as_sample(prompt: str, continuation: str) -> str:
    """One quoted sample; the special tokens of a chat become words for readers."""
    if prompt.startswith("<|user|>"):
        question = prompt.removeprefix("<|user|>").removesuffix("<|assistant|>")
        return f"> **{question}**\n>\n> {_quoted(continuation)}"
    return f"> **{prompt}**{_quoted(continuation)}"


def _quoted(text: str) -> str:
    return text.replace("\n", "\n> ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=evaluate.FOLDER)
    parser.add_argument("--training", type=Path, required=True, help="the training.jsonl that train.py wrote")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write(arguments.folder, [json.loads(line) for line in arguments.training.read_text().splitlines()])


if __name__ == "__main__":
    main()
