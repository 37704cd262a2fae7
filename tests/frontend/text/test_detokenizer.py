"""Incremental detokenizing: the pieces together are the whole, and no piece ends within a character."""

import random

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.chat_template import ChatTemplate
from lab_support.frontend.text.token_bytes import byte_level_alphabet
from lab_support.frontend.text.tokenizer import Tokenizer

TEXT = "Grüße an 世界 🤷🏽‍♀️, done.\n\ttabs  and   spaces; ça va? "


def in_the_box() -> Tokenizer:
    return wrapped(tokenizers.Tokenizer.from_file(str(MODEL_IN_THE_BOX / "tokenizer.json")))


def metaspace() -> Tokenizer:
    """A tokenizer that is not byte-level: its decoder turns ▁ into spaces and drops the first."""
    letters = sorted(set(TEXT.replace(" ", "")))
    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", *letters, "▁an", "done"])}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Split("", "isolated")])
    inner.decoder = decoders.Metaspace()
    inner.add_special_tokens(["<end>"])
    return wrapped(inner)


def byte_fallback() -> Tokenizer:
    """Llama 2's way: a character without a token is spelled as bytes, one token each."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁a": 256, "b": 257, "▁": 258}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return wrapped(inner)


def wrapped(inner: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(inner, ChatTemplate(None, {}))


def pieces(tokenizer: Tokenizer, ids: list[int], at_once: int = 1) -> list[str]:
    detokenizer = tokenizer.detokenizer()
    made = [detokenizer.push(ids[i : i + at_once]) for i in range(0, len(ids), at_once)]
    return [*made, detokenizer.finish()]


@pytest.mark.parametrize("make", [in_the_box, metaspace, byte_fallback])
def test_a_text_comes_out_as_when_decoded_at_once(make) -> None:
    tokenizer = make()
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    assert tokenizer.decode(ids).strip() == TEXT.strip()
    for at_once in (1, 2, 5):
        assert "".join(pieces(tokenizer, ids, at_once)) == tokenizer.decode(ids)


def test_any_ids_come_out_as_when_decoded_at_once() -> None:
    """Also those that are no UTF-8: cut characters, stray bytes, special tokens, ids beyond the vocabulary."""
    tokenizer = in_the_box()
    rng = random.Random(7)
    for _ in range(500):
        ids = [rng.randrange(rng.choice((260, 2051))) for _ in range(rng.randrange(1, 30))]
        assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids), ids


def test_bytes_that_are_no_text_stop_nothing() -> None:
    tokenizer = byte_fallback()
    rng = random.Random(7)
    for _ in range(500):
        noise = [rng.randrange(128, 256) for _ in range(rng.randrange(1, 30))]
        text = "".join(pieces(tokenizer, [257, *noise, 257, 257]))
        assert text.startswith("b")
        assert text.endswith("b")
        assert "\ufffd" in text or len(text) > 3


@pytest.mark.parametrize("make", [in_the_box, byte_fallback])
def test_no_piece_ends_within_a_character(make) -> None:
    tokenizer = make()
    spelled = {byte: token for token, byte in byte_level_alphabet().items()}
    for character in "é世🤷":
        names = [spelled[b] if tokenizer.byte_level else f"<0x{b:02X}>" for b in character.encode()]
        ids = [tokenizer._inner.token_to_id(name) for name in names]
        assert pieces(tokenizer, ids) == [""] * (len(ids) - 1) + [character, ""]
        *cut, end = pieces(tokenizer, ids[:-1])
        assert not any(cut)
        assert end == tokenizer.decode(ids[:-1])
        assert set(end) == {"�"}


def test_special_tokens_are_not_shown() -> None:
    tokenizer = in_the_box()
    ids = tokenizer.encode("<|user|>Hello<|endoftext|>")
    assert "".join(pieces(tokenizer, ids)) == "Hello"
    assert tokenizer.token_text(ids[0]) == "<|user|>"
