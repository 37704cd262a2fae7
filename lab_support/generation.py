"""Types that clients, messages and the engine share: a sequence's sampling parameters, log-probabilities, and its end.

They live above `boundary/`, which carries them, and `engine/`, which obeys them, because these two never import
each other. The names are OpenAI's and vLLM's. There are no stop strings here: only API servers handle text, and an
engine core never sees any.
"""

from dataclasses import dataclass
from enum import IntEnum

import msgspec


class FinishReason(IntEnum):
    """Why a sequence ended: an end token, its length limit, or an abort."""

    STOP = 0
    LENGTH = 1
    ABORT = 2


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Parameters for choosing one sequence's tokens. `frontend/request/openai_api.py` checks the ranges on arrival.

    temperature: 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are "off".
    presence_penalty, frequency_penalty: subtracted from logits, over generated tokens only (OpenAI's rule).
    repetition_penalty: divides or multiplies logits, over prompt and generated tokens (Hugging Face's rule).
    seed: makes a sampled sequence repeatable whatever else is in its batch; None draws one.
    max_tokens: 0 computes the prompt alone, for its log-probabilities.
    logprobs: how many alternatives to report for each token; None reports nothing, 0 the token alone.
    prompt_logprobs: the same for each token of the prompt but the first, before which there is nothing.
    stop_token_ids: end the sequence like the model's own end token does, even under `ignore_eos`.
    """

    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


class TokenLogprobs(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A token's log-probability by the model itself, before penalties, temperature and so on (vLLM's raw_logprobs).

    rank 1 is the likeliest; `top` holds (token id, logprob), likeliest first, as many as were requested. The engine's
    object is packed into the message without a copy, because a step makes a thousand for a prompt's tokens.
    """

    logprob: float
    rank: int
    top: list[tuple[int, float]]
