"""vLLM's sampling parameters, as ours: those that an engine core obeys, ignores or refuses.

Names, bounds and defaults are vLLM 0.33.0's (vllm/sampling_params.py). Runs in an engine core's input thread.
"""

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lab_support.boundary.vllm.layouts import SPOKEN
from lab_support.generation import SamplingParams

MOST_LOGPROBS = 20


class Refused(ValueError):
    """A request that can't be served. The words say what was got, and what to do."""


class VllmSampling(msgspec.Struct, kw_only=True, gc=False):
    """Those of vLLM's sampling parameters that this engine core obeys, with their bounds there."""

    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0)] = 1.0
    temperature: Annotated[float, Meta(ge=0)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=-1)] = 0
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = 16
    min_tokens: Annotated[int, Meta(ge=0)] = 0
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None


LEFT_TO_THE_FRONT_END = {
    *("n", "stop", "detokenize", "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output"),
    *("output_kind", "stream_interval", "output_text_buffer_length", "flat_logprobs", "skip_clone"),
    *("ignore_eos", "_eos_token_id", "_all_stop_token_ids", "_watermarking_skipped", "routed_experts_prompt_start"),
    "skip_reading_prefix_cache",  # a request with prompt_logprobs goes past the cache here, too
    "watermarking",  # by the engine's configured watermark, and this one has none
}
"""Sampling parameters that change nothing in an engine core, or that it finds out by itself."""

_NOTHING: tuple[Any, ...] = (None, False, [], {})


def sampling_of(asked: dict[str, Any], room: int, vocabulary: int) -> SamplingParams:
    """Our parameters for vLLM's. room: tokens that the context has left. Raises `Refused`."""
    unknown = asked.keys() - set(VllmSampling.__struct_fields__) - LEFT_TO_THE_FRONT_END
    if refused := sorted(name for name in unknown if asked[name] not in _NOTHING):
        raise Refused(f"got {', '.join(refused)}, which this engine core does not have; leave it out")
    if not all(map(math.isfinite, (each for each in asked.values() if isinstance(each, float)))):
        raise Refused("got a sampling parameter that is no finite number; give a number")
    try:
        found = msgspec.convert(asked, VllmSampling)
    except msgspec.ValidationError as error:
        raise Refused(f"got sampling parameters that vLLM {SPOKEN} would refuse: {error}") from error
    max_tokens = min(room, found.max_tokens or room)
    if found.min_tokens > max_tokens:
        raise Refused(f"got min_tokens {found.min_tokens}, expected at most max_tokens, {max_tokens}")
    end = end_token(asked)
    ends = (*([] if end is None else [end]), *(found.stop_token_ids or ()))
    if any(not 0 <= each < vocabulary for each in ends):
        raise Refused(f"got end token and stop_token_ids {list(ends)}, expected ids from 0 to {vocabulary - 1}")
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=found.min_tokens,
        temperature=found.temperature,
        top_p=found.top_p,
        top_k=max(found.top_k, 0),
        min_p=found.min_p,
        presence_penalty=found.presence_penalty,
        frequency_penalty=found.frequency_penalty,
        repetition_penalty=found.repetition_penalty,
        seed=found.seed,
        ignore_eos=True,  # the front end says which token ends this request, if any does
        stop_token_ids=ends,
        logprobs=found.logprobs,
        prompt_logprobs=found.prompt_logprobs,
    )


def of_probabilities(sampling: SamplingParams) -> str:
    """Those of its parameters that say something of probabilities, which a stand-in for a GPU doesn't have."""
    asked = {
        "logprobs": sampling.logprobs is not None,
        "prompt_logprobs": sampling.prompt_logprobs is not None,
        "presence_penalty": sampling.presence_penalty != 0,
        "frequency_penalty": sampling.frequency_penalty != 0,
        "repetition_penalty": sampling.repetition_penalty != 1,
    }
    return ", ".join(name for name, is_asked in asked.items() if is_asked)


def end_token(asked: dict[str, Any]) -> int | None:
    """The model's end token, which is left out under `ignore_eos`."""
    end = asked.get("_eos_token_id")
    return end if isinstance(end, int) else None
