"""A folder that can be served: everything that must be known before its weights are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.model_folder.generation_config import GenerationConfig, SamplingDefaults, read_generation_config
from lab_support.model_folder.json_object import ModelFolderError, read_object
from lab_support.model_folder.shape import ModelShape, parse_shape
from lab_support.model_folder.token_ids import TokenIds
from lab_support.model_folder.weights import StoredTensor, check_tensors, find_tensors, unused_tensors


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Opened by `ModelFolder.open`. `stored` is empty under `--load-format dummy`.

    end_token_ids: an answer ends at any of these and does not show it. sampling: defaults for fields that a request
    omits.
    """

    path: Path
    shape: ModelShape
    end_token_ids: frozenset[int]
    tokenizer: Path
    stored: Mapping[str, StoredTensor]
    generation: GenerationConfig

    @staticmethod
    def open(path: Path, load_format: str = "auto", generation_config: str = "auto") -> "ModelFolder":
        """Read and check `path`. Runs in any process. Raises `ModelFolderError`, whose text is one sentence."""
        if not path.is_dir():
            raise ModelFolderError(f"--model: got {path}, which is not a folder; give a Hugging Face model folder")
        config = read_object(path / "config.json")
        shape = parse_shape(config, path / "config.json")
        tokenizer = path / "tokenizer.json"
        if not tokenizer.is_file():
            raise ModelFolderError(f"{path}: got no tokenizer.json, expected one next to config.json; copy it there")
        stored = {} if load_format == "dummy" else find_tensors(path)
        if load_format != "dummy":
            check_tensors(path, shape.tensors(), stored)
        generation = read_generation_config(path, generation_config)
        ends = _end_tokens(path, config, generation, shape.vocab_size)
        return ModelFolder(path, shape, ends, tokenizer, stored, generation)

    @property
    def sampling(self) -> SamplingDefaults:
        return self.generation.sampling

    def notices(self) -> Iterator[str]:
        """A sentence for each part of the folder that is not used or does not fit. Reads all of tokenizer.json."""
        highest, token = TokenIds(self.path).highest()
        if highest >= self.shape.vocab_size:
            yield (
                f"{self.tokenizer}: got token {token!r} with id {highest}, but the model's vocab_size is "
                f"{self.shape.vocab_size}: a prompt with a token id from that on is refused"
            )
        if unused := unused_tensors(self.shape.tensors(), self.stored):
            yield f"{self.path}: tensors that config.json does not name are not used: {len(unused)}, first {unused[0]}"
        if self.generation.ignored:
            names = ", ".join(self.generation.ignored)
            yield f"{self.sampling.source}: got {names}, which this server ignores"


def _end_tokens(path: Path, config: dict[str, Any], generation: GenerationConfig, vocab_size: int) -> frozenset[int]:
    """End tokens of generation_config.json, or else of config.json, plus the tokenizer's own.

    As vLLM reads them (v1/engine/input_processor.py; SamplingParams.update_from_generation_config)."""
    ends = config.get("eos_token_id") if generation.eos_token_id is None else generation.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    for token in ends:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocab_size:
            raise ModelFolderError(f"{path}: got eos_token_id {token!r}, expected 0 to {vocab_size - 1}; fix the file")
    own = TokenIds(path).end_token
    return frozenset(ends) | ({own} if own is not None and 0 <= own < vocab_size else set())
