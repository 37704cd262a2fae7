"""The tokenizer classes of transformers that take only the vocabulary from tokenizer.json and build the rest.

Most classes use all of tokenizer.json. Three classes, for Llama and its relatives, do not (5.23, tokenization_llama.py,
tokenization_qwen2.py and, for SmolLM2, tokenization_gpt2.py), so this file builds the same parts; otherwise a
tokenizer.json that differs from them would give other ids here than in transformers. tokenizer_config.json and
config.json together determine the class (`AutoTokenizer.from_pretrained`). Vocabularies other than BPE are used as they
are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PLAIN = "TokenizersBackend"
_USUAL = {"qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "mistral": _PLAIN}  # by `model_type`
_WRONGLY_DECLARED = {"qwen2"}  # model types whose folders often name another class


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """roles: tokens for roles that tokenizer_config.json does not mention. remake: builds all but the vocabulary."""

    roles: dict[str, str] = field(default_factory=dict)
    remake: Callable[[Tokenizer, dict[str, Any]], None] = lambda tokenizer, config: None


def tokenizer_class(tokenizer: Tokenizer, tokenizer_config: dict[str, Any], config: dict[str, Any]) -> TokenizerClass:
    """The class that the two files determine. `tokenizer`: from tokenizer.json."""
    declared = tokenizer_config.get("tokenizer_class") or config.get("tokenizer_class")
    name = _name(str(declared).removesuffix("Fast") if declared else None, str(config.get("model_type")))
    if not isinstance(tokenizer.model, models.BPE) or (name == "LlamaTokenizer" and _is_byte_level(tokenizer)):
        return TokenizerClass()
    return _CLASSES.get(name, TokenizerClass())


def _name(declared: str | None, model_type: str) -> str:
    usual = _USUAL.get(model_type)
    if declared is None or model_type in _WRONGLY_DECLARED:
        return usual or _PLAIN
    return _PLAIN if usual == _PLAIN else declared


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    parts = [part.__getstate__() for part in (tokenizer.pre_tokenizer, tokenizer.decoder) if part]
    return any(b'"ByteLevel"' in part for part in parts)


def _remake_llama(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    prefixed = config.get("add_prefix_space") is not False
    scheme = ("always" if config.get("legacy") else "first") if prefixed else "never"
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)
    tokenizer.model.fuse_unk = True
    tokenizer.model.byte_fallback = True


def _remake_qwen2(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    each_byte = pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space") is True, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, each_byte])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.model.byte_fallback = False


def _remake_gpt2(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space") is True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.model.byte_fallback = False


_END = "<|endoftext|>"
_CLASSES = {
    "LlamaTokenizer": TokenizerClass({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, _remake_llama),
    "Qwen2Tokenizer": TokenizerClass({"eos_token": _END, "unk_token": _END, "pad_token": _END}, _remake_qwen2),
    "GPT2Tokenizer": TokenizerClass({"bos_token": _END, "eos_token": _END, "unk_token": _END}, _remake_gpt2),
}
