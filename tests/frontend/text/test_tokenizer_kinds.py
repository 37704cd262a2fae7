"""Every kind of tokenizer that Llama's relatives have, made small here: ids and texts are those of transformers."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from lab_support.frontend.text.tokenizer import Tokenizer

SPECIAL = ["<unk>", "<s>", "</s>"]
CORPUS = ["the cat sat on the mat, and the dog sat by the door", "a small town by the sea", "two words  apart\n"] * 5
TEXTS = [
    "the cat sat",
    " the cat sat",
    "  two spaces, and two  more  ",
    "a line\nand another\n\n",
    "\tTabs",
    "unknown: Ünïcödé, 日本語, emoji 👩‍👩‍👧 and 🎉!",
    "<s>the</s> dog<unk>",
    "x",
    " ",
]


def byte_fallback(*, legacy: bool) -> Inner:
    """As Llama 2's and Mistral's. Legacy ones put a space before every text, the others before words at its start."""
    trained = Inner(models.BPE(unk_token="<unk>", fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=150, special_tokens=SPECIAL))
    found = json.loads(trained.to_str())["model"]
    learned = [token for token in sorted(found["vocab"], key=found["vocab"].get) if token not in SPECIAL]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    merges = [tuple(merge) for merge in found["merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    inner = Inner(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    inner.add_special_tokens(SPECIAL)
    return with_first_token(inner)


def unigram() -> Inner:
    inner = Inner(models.Unigram())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    inner.train_from_iterator(CORPUS, trainer)
    return with_first_token(inner)


def byte_level(*, prefix_space: bool) -> Inner:
    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    return inner


def with_first_token(inner: Inner) -> Inner:
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return inner


KINDS: dict[str, Callable[[], Inner]] = {
    "BPE with byte fallback, legacy": lambda: byte_fallback(legacy=True),
    "BPE with byte fallback": lambda: byte_fallback(legacy=False),
    "Unigram": unigram,
    "byte-level": lambda: byte_level(prefix_space=False),
    "byte-level with a space before": lambda: byte_level(prefix_space=True),
}


@dataclass
class Folder:
    path: Path


@dataclass
class Both:
    ours: Tokenizer
    theirs: "transformers.PreTrainedTokenizerFast"


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A folder as transformers saves it, opened by it and by us."""
    path = tmp_path_factory.mktemp("folder")
    saved = transformers.PreTrainedTokenizerFast(
        tokenizer_object=KINDS[request.param](), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    saved.save_pretrained(path)
    return Both(Tokenizer.open(Folder(path)), transformers.PreTrainedTokenizerFast.from_pretrained(path))


@pytest.mark.parametrize("text", TEXTS)
def test_a_texts_ids_are_those_of_transformers(both: Both, text: str) -> None:
    for special in (True, False):
        assert both.ours.encode(text, special) == both.theirs.encode(text, add_special_tokens=special)


def test_the_text_of_ids_is_that_of_transformers(both: Both) -> None:
    """Of whole texts' ids, at once and as they come."""
    for text in TEXTS:
        ids = both.theirs.encode(text)
        expected = both.theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert both.ours.decode(ids) == expected
        assert in_pieces(both.ours, ids) == expected


def test_the_text_of_generated_ids_is_that_of_transformers(both: Both) -> None:
    """A model may say anything: characters in pieces, special tokens, spaces at the beginning."""
    rng = random.Random(5)
    texts = [[rng.choice(both.theirs.encode(rng.choice(TEXTS))) for _ in range(12)] for _ in range(50)]
    for ids in texts:
        ids = [token for token in ids if not 3 <= token < 259 or both.ours.byte_level]  # no bytes that are no text
        assert both.ours.decode(ids) == both.theirs.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert in_pieces(both.ours, ids) == both.ours.decode(ids)


def in_pieces(tokenizer: Tokenizer, ids: list[int]) -> str:
    detokenizer = tokenizer.detokenizer()
    return "".join([*(detokenizer.push([token]) for token in ids), detokenizer.finish()])
