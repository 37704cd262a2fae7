"""Model folders of common sizes without weights: a config.json, and data/model's tokenizer enlarged to match.

For `--load-format dummy`. A model with random weights may answer with any token, so each token needs a text: those
that data/model's tokenizer lacks are called x2048, x2049, … Only a few megabytes of JSON are written.
"""

import json
from dataclasses import dataclass
from pathlib import Path

BOX = Path(__file__).resolve().parents[2] / "data" / "model"
CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of one model of the Llama architecture, by Hugging Face's names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool

    @property
    def parameters(self) -> int:
        """Number of weights, without norms."""
        heads = (2 * self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
        layer = self.hidden_size * (heads + 3 * self.intermediate_size)
        return self.num_hidden_layers * layer + self.vocab_size * self.hidden_size * (2 - self.tie_word_embeddings)


SIZES = {
    "tiny": Size(64, 128, 2, 4, 2, 16, 3000, True),  # for rehearsals
    "0.1B": Size(576, 1536, 30, 9, 3, 64, 49152, True),  # as SmolLM2-135M
    "1B": Size(2048, 8192, 16, 32, 8, 64, 128256, True),  # as Llama 3.2 1B
    "8B": Size(4096, 14336, 32, 32, 8, 128, 128256, False),  # as Llama 3.1 8B
}


def write_folder(folder: Path, size: Size) -> None:
    """Make `folder` a model folder that `lab serve --load-format dummy` takes."""
    folder.mkdir()
    config = json.loads((BOX / "config.json").read_text())
    config |= {name: getattr(size, name) for name in Size.__dataclass_fields__}
    config |= {"max_position_embeddings": CONTEXT, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((BOX / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    taken = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    vocabulary |= {f"x{token}": token for token in range(size.vocab_size) if token not in taken}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for name in ("tokenizer_config.json", "generation_config.json"):
        (folder / name).write_bytes((BOX / name).read_bytes())
