"""Model folders made by transformers, and its answers on them: the oracle of the engine's tests."""

import json
from pathlib import Path

import torch
import transformers  # whose names are looked up at their use: to import models takes seconds in each worker

SMALL = dict(
    vocab_size=307,
    hidden_size=64,
    intermediate_size=112,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=2,
    # Larger than transformers' 0.02, which leaves a random model's best logits so close that rounding decides.
    initializer_range=0.2,
)


def make_folder(
    path: Path, *, family: str = "llama", seed: int = 0, shard_size: str = "1GB", dtype=torch.float32, **changes
) -> Path:
    """Save a random model, with an empty tokenizer.json, which the engine never reads. family: its model_type."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(family, **(SMALL | changes))
    )
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.2)
    model.to(dtype).save_pretrained(path, max_shard_size=shard_size)
    (path / "tokenizer.json").write_text("{}")
    return path


def edit_config(path: Path, **changes) -> None:
    """Set keys of config.json; None removes one."""
    file = path / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def oracle(path: Path) -> "transformers.PreTrainedModel":
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def oracle_logits(model: "transformers.PreTrainedModel", tokens: list[int]) -> torch.Tensor:
    """float32 [tokens, vocabulary]: what transformers answers after each of `tokens`."""
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0]
