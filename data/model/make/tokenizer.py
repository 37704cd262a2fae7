"""Trains the tokenizer of the model in the box and writes everything of the folder that is not weights.

Byte-level BPE of 2,048 entries: any UTF-8 text has token ids and comes back unchanged. Digits stay single, so
that a port number is copied digit by digit and not known by heart.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 2048
CONTEXT = 2048
END, SYSTEM, USER, ASSISTANT = SPECIAL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"]

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{ raise_exception('role: got ' ~ message['role'] ~ ', expected system, user or assistant') }}"
    "{%- endif -%}"
    "{{- '<|' ~ message['role'] ~ '|>' ~ message['content'] | trim -}}"
    "{%- if message['role'] == 'assistant' -%}{{- '<|endoftext|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "use_cache": True,
    "torch_dtype": "bfloat16",
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": CONTEXT,
    "eos_token": END,
    "pad_token": END,
    "additional_special_tokens": SPECIAL[1:],
    "clean_up_tokenization_spaces": False,
    "chat_template": CHAT_TEMPLATE,
}
GENERATION_CONFIG = {"eos_token_id": 0, "pad_token_id": 0, "do_sample": False}


def train(documents: Iterable[str]) -> Tokenizer:
    """A tokenizer of exactly `VOCABULARY` entries, the special ones first. Deterministic."""
    specials = re.compile("|".join(map(re.escape, SPECIAL)))
    texts = (part for document in documents for part in specials.split(document))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, f"{tokenizer.get_vocab_size()} entries: the corpus is too small"
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the three small JSON files beside it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in [
        ("config.json", CONFIG),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
        ("generation_config.json", GENERATION_CONFIG),
    ]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
