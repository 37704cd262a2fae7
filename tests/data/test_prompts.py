"""The prompts for load tests: as many and as mixed as promised, and made by the script next to them."""

import json
from pathlib import Path

from tokenizers import Tokenizer

DATA = Path(__file__).resolve().parents[2] / "data"


def prompts() -> list[dict]:
    return [json.loads(line) for line in (DATA / "prompts" / "mixed.jsonl").read_text(encoding="utf-8").splitlines()]


def length(tokenizer: Tokenizer, prompt: dict) -> int:
    text = prompt["prompt"] if "prompt" in prompt else "".join(each["content"] for each in prompt["messages"])
    return len(tokenizer.encode(text).ids)


def test_each_line_is_a_completion_or_a_chat() -> None:
    lines = prompts()
    chats = [each for each in lines if "messages" in each]
    assert len(lines) == 400
    assert 0.25 < len(chats) / len(lines) < 0.55
    for each in lines:
        assert set(each) in ({"prompt", "max_tokens"}, {"messages", "max_tokens"})
        assert 1 <= each["max_tokens"] <= 256
    assert all(each["messages"][-1]["role"] == "user" for each in chats)


def test_lengths_have_a_long_tail_and_fit_the_context() -> None:
    tokenizer = Tokenizer.from_file(str(DATA / "model" / "tokenizer.json"))
    lines = prompts()
    lengths = sorted(length(tokenizer, each) for each in lines)
    median = lengths[len(lengths) // 2]
    assert lengths[0] <= 10
    assert 40 <= median <= 120
    assert lengths[-1] >= 8 * median
    assert all(length(tokenizer, each) + each["max_tokens"] < 2000 for each in lines)


def test_the_script_makes_the_same_file_again() -> None:
    from data.prompts.make_prompts import lines

    tokenizer = Tokenizer.from_file(str(DATA / "model" / "tokenizer.json"))
    assert json.loads(json.dumps(lines(tokenizer))) == prompts()
