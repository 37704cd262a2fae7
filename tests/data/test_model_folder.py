"""The model in the box: its folder is complete, small and of the promised shape, and it keeps its story straight."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "data" / "model"
MEGABYTE = 1_000_000
RECALL_PROMPTS, RECALL_LEAST = 26, 0.7


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_the_folder_is_complete_and_small() -> None:
    names = {each.name for each in FOLDER.iterdir() if each.is_file()}
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum((FOLDER / name).stat().st_size for name in names) < 8 * MEGABYTE


def test_the_config_has_the_promised_shape() -> None:
    config = read("config.json")
    promised = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 2048,
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }
    assert {name: config[name] for name in promised} == promised


def test_the_weights_are_bfloat16_and_three_to_four_million() -> None:
    with safe_open(FOLDER / "model.safetensors", framework="numpy") as weights:
        slices = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118 - it is not a dict
        assert {each.get_dtype() for each in slices} == {"BF16"}
        sizes = [each.get_shape() for each in slices]
    assert 3e6 < sum(shape[0] * (shape[1] if len(shape) == 2 else 1) for shape in sizes) < 4e6


def test_the_card_names_the_hash_of_the_weights() -> None:
    digest = hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_end_token_is_the_same_everywhere() -> None:
    tokenizer = read("tokenizer.json")
    name = read("tokenizer_config.json")["eos_token"]
    (end,) = [each for each in tokenizer["added_tokens"] if each["content"] == name]
    assert end["id"] == read("config.json")["eos_token_id"] == read("generation_config.json")["eos_token_id"]


def test_any_text_comes_back_from_its_tokens() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    for text in ["Port 8080 is open.", "  two  spaces\n\ttab", "zażółć gęślą jaźń", "日本語 🐢", "\u200d\x00"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_chat_template_closes_every_answer_and_refuses_an_unknown_role() -> None:
    import jinja2

    def refuse(message: str) -> None:
        raise ValueError(message)

    template = jinja2.Environment().from_string(read("tokenizer_config.json")["chat_template"])
    told = template.render(
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "Bye"},
        ],
        add_generation_prompt=True,
    )
    assert told == "<|system|>Be kind.<|user|>Hello<|assistant|>Hi<|endoftext|><|user|>Bye<|assistant|>"
    with pytest.raises(ValueError, match="got tool"):
        template.render(messages=[{"role": "tool", "content": ""}], raise_exception=refuse)


@pytest.mark.slow
def test_transformers_loads_it_and_it_recalls_named_things() -> None:
    """In a process of its own, because transformers is slow to load and warns of its own accord."""
    done = subprocess.run(
        [sys.executable, "-m", "data.model.make.evaluate", "--prompts", str(RECALL_PROMPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["prompts"] == RECALL_PROMPTS
    assert measured["recall"] >= RECALL_LEAST, measured


@pytest.mark.parametrize("course", [1, 5])
def test_held_out_pairs_never_meet_in_the_corpus(course: int) -> None:
    """The recall score is honest: no name of a held-out prompt occurs with its answer in any training document."""
    from data.model.make.cast import NOUNS, word_class
    from data.model.make.corpus import documents
    from data.model.make.train import COURSES

    source = documents(seed=7, mix=COURSES[course - 1].mix)
    pairs = 0
    for _ in range(3000):
        document = next(source)
        if document.startswith("<|"):
            continue
        names = set(re.findall(r"named ([A-Z][a-z]+)", document))
        things = {match[0] for match in re.finditer(rf"\b[a-z]+ (?:{'|'.join(NOUNS)})\b", document)}
        things = {each for each in things if re.search(rf"\ban? {each}\b", document)}
        for name in names:
            for thing in things:
                pairs += 1
                assert (word_class(name) + word_class(thing)) % 8 != 0, document
    assert pairs > 500
