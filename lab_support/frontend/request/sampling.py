"""Turns a request's fields into `SamplingParams`. Parsing has checked ranges; pairs of fields are checked here."""

from typing import TypeVar

from lab_support.frontend.http.errors import ApiError, bad_request
from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest
from lab_support.frontend.request.prompt_logprobs import Asked
from lab_support.frontend.request.served_model import ServedModel
from lab_support.generation import SamplingParams

N = TypeVar("N", int, float)
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's
LOWEST_TEMPERATURE = 0.01  # except for 0; vLLM's, because dividing by less overflows
SEEDS = 2**64


def check_together(request: CompletionRequest | ChatCompletionRequest) -> None:
    """Raises `ApiError` (400) if two fields can't be combined, as in vLLM."""
    if request.prompt_logprobs is not None and request.stream:
        raise bad_request(
            "prompt_logprobs: got it together with `stream`, allowed is only one of the two, because a stream has no "
            "place for these log-probabilities",
            "prompt_logprobs",
        )
    if isinstance(request, ChatCompletionRequest):
        if request.top_logprobs and not request.logprobs:
            raise bad_request(
                f"top_logprobs: got {request.top_logprobs} without `logprobs`, allowed is 0; set logprobs to true",
                "top_logprobs",
            )
    elif request.max_tokens == 0 and not request.echo:
        raise bad_request("max_tokens: got 0, allowed is >= 1, or 0 together with `echo`", "max_tokens")


def asked_logprobs(request: CompletionRequest | ChatCompletionRequest) -> Asked:
    echoed = request.logprobs if isinstance(request, CompletionRequest) and request.echo else None
    return Asked(_logprobs(request) is not None, echoed, request.prompt_logprobs)


def sampling_params(
    request: CompletionRequest | ChatCompletionRequest, prompt_tokens: int, model: ServedModel
) -> SamplingParams:
    """The parameters for a prompt of `prompt_tokens` tokens. Raises `ApiError` (400) if the answer would not fit."""
    max_tokens = _max_tokens(request, prompt_tokens, model)
    advised = model.sampling
    temperature = _given(request.temperature, advised.temperature, 1.0)
    return SamplingParams(
        max_tokens=max_tokens,
        prompt_logprobs=asked_logprobs(request).of_prompt,
        min_tokens=min(_min_tokens(request.min_tokens or 0, model), max_tokens),
        temperature=max(temperature, LOWEST_TEMPERATURE) if temperature else 0.0,
        top_p=_given(request.top_p, advised.top_p, 1.0),
        top_k=max(0, _given(request.top_k, advised.top_k, 0)),
        min_p=_given(request.min_p, advised.min_p, 0.0),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=_given(request.repetition_penalty, advised.repetition_penalty, 1.0),
        seed=request.seed,
        ignore_eos=bool(request.ignore_eos),
        stop_token_ids=_stop_token_ids(request, model),
        logprobs=_logprobs(request),
    )


def stop_strings(request: CompletionRequest | ChatCompletionRequest) -> tuple[str, ...]:
    if isinstance(request.stop, str):
        return (request.stop,)
    return tuple(request.stop or ())


def derived_seed(seed: int | None, choice: int) -> int | None:
    """The seed of a request's choice: the first has the request's own, so that it is the same for n=1 and n=2."""
    if seed is None:
        return None
    return (seed + choice + SEEDS // 2) % SEEDS - SEEDS // 2


def _given(value: N | None, advised: N | None, default: N) -> N:
    """The request's value, or else the model folder's, or else OpenAI's."""
    return next(each for each in (value, advised, default) if each is not None)


def _max_tokens(request: CompletionRequest | ChatCompletionRequest, prompt_tokens: int, model: ServedModel) -> int:
    left = model.max_model_len - prompt_tokens
    if left < 1:
        raise _over_context("nothing left for the answer", prompt_tokens, model, "messages")
    if isinstance(request, CompletionRequest):
        name, asked = "max_tokens", request.max_tokens
        default = min(DEFAULT_COMPLETION_TOKENS, left)
    else:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        asked = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        default = min(model.sampling.max_new_tokens or left, left)
    if asked is not None and asked > left:
        raise _over_context(f"{name} {asked}", prompt_tokens, model, name)
    most = model.sampling.max_new_tokens if model.sampling.is_limit else None
    tokens = default if asked is None else asked
    return tokens if most is None else min(tokens, most)


def _min_tokens(asked: int, model: ServedModel) -> int:
    most = model.max_model_len - 1
    if asked > most:
        raise bad_request(f"min_tokens: got {asked}, allowed are 0 to {most}", "min_tokens")
    return asked


def _over_context(asked: str, prompt_tokens: int, model: ServedModel, param: str) -> ApiError:
    return bad_request(
        f"{param}: got a prompt of {prompt_tokens} tokens and {asked}, but this model's context is "
        f"{model.max_model_len} tokens for both",
        param,
        "context_length_exceeded",
    )


def _stop_token_ids(request: CompletionRequest | ChatCompletionRequest, model: ServedModel) -> tuple[int, ...]:
    given = tuple(request.stop_token_ids or ())
    for token_id in given:
        if token_id >= model.vocab_size:
            raise bad_request(
                f"stop_token_ids: got {token_id}, allowed are 0 to {model.vocab_size - 1}", "stop_token_ids"
            )
    return given


def _logprobs(request: CompletionRequest | ChatCompletionRequest) -> int | None:
    if isinstance(request, CompletionRequest):
        return request.logprobs
    return (request.top_logprobs or 0) if request.logprobs else None
