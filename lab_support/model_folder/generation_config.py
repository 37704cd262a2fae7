"""generation_config.json: how the model's makers want it to be sampled, and which tokens end an answer.

--generation-config says where it is looked for, as in vLLM (config/model.py, get_diff_sampling_param): `auto` in the
model folder; `vllm` too, but for end tokens alone; else in the folder that is named, or in the file itself.
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
"""What transformers' generate would obey and this server, like vLLM, does not; and values that change nothing."""


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Values for a request's gaps; None where the folder has none. `source` is the file, "" where there is none.

    max_new_tokens: most tokens of an answer whose request says nothing. is_limit: most tokens of any answer then, as
    in vLLM where --generation-config names a path.
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
        """Those that there are, by their names in the file."""
        return {name: value for name in _RANGES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The file, read and checked. `eos_token_id`: as it stands there. ignored: what it has and nobody here obeys."""

    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    eos_token_id: Any = None
    ignored: tuple[str, ...] = ()


def read_generation_config(model: Path, choice: str) -> GenerationConfig:
    """choice: --generation-config. Raises `ModelFolderError`, also where a path is given and leads to no such file."""
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
            f"--generation-config: got {choice}, which is not there; give auto, vllm, or a folder with {FILE_NAME}"
        )
    return named if named.is_file() else named / FILE_NAME


def _check_ranges(values: Mapping[str, Any], file: Path) -> None:
    for name, allowed in _RANGES.items():
        if (value := values.get(name)) is not None and not allowed.holds(value):
            raise ModelFolderError(
                f"{file}: got {name} {value!r}, expected {allowed}; mend the file, or give --generation-config vllm"
            )


def _ignored(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        name
        for name, harmless in _WITHOUT_EFFECT.items()
        if (value := values.get(name)) is not None and value is not False and value not in harmless
    )
