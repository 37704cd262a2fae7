"""The engine's parameters, made from a request's fields: the length that is left, seeds of several choices, clamps."""

import pytest

from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.request.openai_api import ChatCompletionRequest, ChatMessage, CompletionRequest
from lab_support.frontend.request.sampling import derived_seed, sampling_params
from lab_support.frontend.request.served_model import ServedModel
from lab_support.model_folder import SamplingDefaults

MODEL = ServedModel("model", 100, 2048)
MESSAGES = [ChatMessage(role="user", content="hi")]


def completion(prompt_tokens: int = 10, **fields):
    return sampling_params(CompletionRequest(prompt="a", **fields), prompt_tokens, MODEL)


def chat(prompt_tokens: int = 10, **fields):
    return sampling_params(ChatCompletionRequest(messages=MESSAGES, **fields), prompt_tokens, MODEL)


def test_max_tokens_has_openais_defaults() -> None:
    assert completion().max_tokens == 16
    assert completion(95).max_tokens == 5
    assert chat().max_tokens == 90
    assert chat(max_tokens=7).max_tokens == 7
    assert chat(max_tokens=7, max_completion_tokens=8).max_tokens == 8


def advised(**values):
    """A model whose folder has these sampling defaults."""
    return ServedModel("model", 100, 2048, sampling=SamplingDefaults(**values))


def test_the_folders_defaults_fill_gaps_and_nothing_else() -> None:
    model = advised(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.1, max_new_tokens=20)
    filled = sampling_params(ChatCompletionRequest(messages=MESSAGES), 10, model)
    assert (filled.temperature, filled.top_p, filled.top_k, filled.min_p) == (0.5, 0.9, 7, 0.1)
    assert (filled.repetition_penalty, filled.max_tokens) == (1.1, 20)
    own = dict(temperature=0.0, top_p=1.0, top_k=-1, min_p=0.0, repetition_penalty=1.0, max_tokens=30)
    asked = sampling_params(ChatCompletionRequest(messages=MESSAGES, **own), 10, model)
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p) == (0.0, 1.0, 0, 0.0)
    assert (asked.repetition_penalty, asked.max_tokens) == (1.0, 30)


def test_max_new_tokens_fits_the_context_and_leaves_completions_their_sixteen() -> None:
    model = advised(max_new_tokens=20)
    assert sampling_params(ChatCompletionRequest(messages=MESSAGES), 95, model).max_tokens == 5
    assert sampling_params(CompletionRequest(prompt="a"), 10, model).max_tokens == 16


def test_max_new_tokens_of_a_path_that_was_named_limits_every_answer() -> None:
    model = advised(max_new_tokens=12, is_limit=True)
    assert sampling_params(CompletionRequest(prompt="a"), 10, model).max_tokens == 12
    assert sampling_params(CompletionRequest(prompt="a", max_tokens=50), 10, model).max_tokens == 12
    assert sampling_params(CompletionRequest(prompt="a", max_tokens=5), 10, model).max_tokens == 5


def test_prompt_plus_max_tokens_over_the_context_names_all_three() -> None:
    assert completion(max_tokens=90).max_tokens == 90
    for ask in (lambda: completion(max_tokens=91), lambda: chat(max_completion_tokens=91)):
        with pytest.raises(ApiError) as caught:
            ask()
        assert caught.value.status == 400
        assert caught.value.code == "context_length_exceeded"
        for number in ("10 tokens", "91", "100 tokens"):
            assert number in caught.value.message
    with pytest.raises(ApiError) as caught:
        chat(100)
    assert "100 tokens" in caught.value.message


def test_values_become_the_engines() -> None:
    assert completion(top_k=-1).top_k == 0
    assert completion(temperature=0).temperature == 0
    assert completion(temperature=1e-9).temperature == 0.01
    assert completion(min_tokens=50).min_tokens == 16
    assert completion(logprobs=0).logprobs == 0
    assert completion().logprobs is None
    assert chat(logprobs=True).logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).logprobs == 3
    assert chat(logprobs=False).logprobs is None


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    assert completion(stop_token_ids=[2047]).stop_token_ids == (2047,)
    with pytest.raises(ApiError, match="got 2048, allowed are 0 to 2047"):
        completion(stop_token_ids=[2048])


def test_seeds_of_choices_differ_and_stay_in_range() -> None:
    assert derived_seed(None, 3) is None
    assert [derived_seed(5, i) for i in range(3)] == [5, 6, 7]
    last = 2**63 - 1
    assert [derived_seed(last, i) for i in range(2)] == [last, -(2**63)]
