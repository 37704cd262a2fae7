"""Small tokenizers of every kind that public folders have, trained on a few lines when a test asks for one."""

import json
from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = (
    "Once upon a time there was a process that forked, and it don't wait.",
    "Grüße an 世界 🤷🏽‍♀️, done.\n\ttabs  and   spaces; ça va? 12345 numbers",
)
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]
KINDS = ("byte level", "byte level, prefixed", "byte fallback, legacy", "byte fallback", "Unigram", "WordPiece")


def made(kind: str) -> Tokenizer:
    """A new one of `kind`."""
    return Tokenizer.from_str(_trained(kind))


@cache
def _trained(kind: str) -> str:
    makers = {"Unigram": _unigram, "WordPiece": _word_piece}
    if kind.startswith("byte level"):
        tokenizer = _byte_level("prefixed" in kind)
    else:
        tokenizer = makers[kind]() if kind in makers else _byte_fallback("legacy" in kind)
    first = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[first])
    return tokenizer.to_str()


def _byte_level(prefixed: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def _byte_fallback(legacy: bool) -> Tokenizer:
    """SentencePiece's BPE, as Llama 2 has it. Few letters have a token: the others are bytes."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    trainer = trainers.BpeTrainer(vocab_size=60, limit_alphabet=25, show_progress=False)
    trained.train_from_iterator(LINES, trainer)
    learned = sorted(trained.get_vocab(), key=trained.token_to_id)
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *BYTES, *learned])}
    merges = [tuple(pair) for pair in _merges(trained)]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(back)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _merges(tokenizer: Tokenizer) -> list[list[str]]:

    return json.loads(tokenizer.to_str())["model"]["merges"]


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=140, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer
