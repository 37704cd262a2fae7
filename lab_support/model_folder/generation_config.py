"""generation_config.json: the sampling defaults that the model's makers recommend, and the tokens that end an answer.

--generation-config says where to look, as in vLLM (config/model.py, get_diff_sampling_param): `auto`: in the
model folder; `vllm`: there, too, but only for end tokens; otherwise in the given folder or file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lab_support.model_folder.json_object import ModelFolderError, read_object

FILE_NAME = "generation_config.json"


class _Range(NamedTuple):
    low: float
    high: float
    whole: bool = False

    def holds(self, value: object) -> bool:
        kinds = int if self.whole else int | float
        return not isinstance(value, bool) and isinstance(value, kinds) and self.low <= value <= self.high

    def kind(self, value: float) -> Any:
        return int(value) if self.whole else float(value)

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"


_RANGES = {  # a request's own
    "temperature": _Range(0, 2),
    "top_p": _Range(1e-6, 1),
    "top_k": _Range(-1, 2**31 - 1, whole=True),
    "min_p": _Range(0, 1),
    "repetition_penalty": _Range(0.01, 100),
    "max_new_tokens": _Range(1, 2**31 - 1, whole=True),
}
_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "penalty_alpha": (),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "stop_strings": ([],),
}
"""Fields that transformers' generate obeys but this server, like vLLM, ignores; with the values that change nothing."""


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Defaults for fields that a request omits; None if the folder has none. `source` is the file, "" without one.

    max_new_tokens: most tokens of an answer if the request does not say. is_limit: it limits every answer, as in vLLM
    if --generation-config names a path.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    is_limit: bool = False
    source: str = ""

    @property
    def given(self) -> dict[str, float]:
        """The values that are set, by their names in the file."""
        return {name: value for name in _RANGES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The file, read and checked. `eos_token_id`: as written there. ignored: its fields that this server ignores."""

    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    eos_token_id: Any = None
    ignored: tuple[str, ...] = ()


def read_generation_config(model: Path, choice: str) -> GenerationConfig:
    """choice: --generation-config. Raises `ModelFolderError`, also if it is a path without such a file."""
    file = _file(model, choice)
    if not file.exists() and choice in ("auto", "vllm"):
        return GenerationConfig()
    values = read_object(file)
    eos = values.get("eos_token_id")
    if choice == "vllm":
        return GenerationConfig(eos_token_id=eos)
    _check_ranges(values, file)
    sampling = SamplingDefaults(
        **{name: allowed.kind(value) for name, allowed in _RANGES.items() if (value := values.get(name)) is not None},
        is_limit=choice != "auto",
        source=str(file),
    )
    return GenerationConfig(sampling, eos, _ignored(values))


def _file(model: Path, choice: str) -> Path:
    if choice in ("auto", "vllm"):
        return model / FILE_NAME
    named = Path(choice)
    if not named.exists():
        raise ModelFolderError(
            f"--generation-config: got {choice}, which does not exist; give auto, vllm, or a folder with {FILE_NAME}"
        )
    return named if named.is_file() else named / FILE_NAME


def _check_ranges(values: Mapping[str, Any], file: Path) -> None:
    for name, allowed in _RANGES.items():
        if (value := values.get(name)) is not None and not allowed.holds(value):
            raise ModelFolderError(
                f"{file}: got {name} {value!r}, expected {allowed}; fix the file, or give --generation-config vllm"
            )


def _ignored(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        name
        for name, harmless in _WITHOUT_EFFECT.items()
        if (value := values.get(name)) is not None and value is not False and value not in harmless
    )
