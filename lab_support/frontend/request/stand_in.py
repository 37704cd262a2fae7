"""Fields that need a model's probabilities, which a stand-in for a device doesn't have: refused by name.

Refused is what would make an answer claim something of probabilities (log-probabilities and penalties), and `echo`,
which scores texts. Accepted is what holds for random tokens as well: max_tokens, min_tokens, stop, stop_token_ids,
ignore_eos and n. So are temperature, top_p, top_k and min_p: every load generator sends them, and what a client may
rely on is kept: at temperature 0, or with a seed, the same request gets the same tokens.
"""

from typing import Any

from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest
from lab_support.frontend.request.parsing import check_harmless

_PENALTIES: dict[str, list[Any]] = {
    "presence_penalty": [None, 0],
    "frequency_penalty": [None, 0],
    "repetition_penalty": [None, 1],
}
NEEDS_PROBABILITIES: dict[type, dict[str, list[Any]]] = {
    CompletionRequest: {"logprobs": [None], "prompt_logprobs": [None], "echo": [None, False], **_PENALTIES},
    ChatCompletionRequest: {
        "logprobs": [None, False],
        "top_logprobs": [None, 0],
        "prompt_logprobs": [None],
        **_PENALTIES,
    },
}
"""Field → the values that ask for no probabilities; any other value is refused."""


def check_without_probabilities(request: CompletionRequest | ChatCompletionRequest, stand_in: str) -> None:
    """Raises `ApiError` (400) for a request that `stand_in` can't answer; "" if there is a real device."""
    if not stand_in:
        return
    why = (
        f"because this server is a {stand_in} and computes no probabilities; leave the field out, or ask a server that "
        "runs with --device cpu or cuda"
    )
    kind = CompletionRequest if isinstance(request, CompletionRequest) else ChatCompletionRequest
    for name, harmless in NEEDS_PROBABILITIES[kind].items():
        check_harmless(name, getattr(request, name), harmless, why)
