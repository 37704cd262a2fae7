"""A checked request for text: its prompts, the sampling parameters of each, and the form of the answer."""

from dataclasses import dataclass
from hashlib import sha256

from lab_support.frontend.answer.answer_format import AnswerFormat
from lab_support.frontend.http.memory import SEQUENCE, TOKEN_ID
from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest
from lab_support.frontend.request.prompt_logprobs import Asked
from lab_support.frontend.request.prompts import Prompt
from lab_support.frontend.request.sampling import asked_logprobs, sampling_params, stop_strings
from lab_support.frontend.request.served_model import ServedModel
from lab_support.generation import SamplingParams


@dataclass(frozen=True, slots=True)
class Job:
    """One `SamplingParams` and n choices for each prompt. arrived_at: `time.monotonic()` when the request arrived.

    stops, include_stop, end_token_ids: these decide where an answer's text ends. with_usage: a stream ends with counts
    of tokens; with_usage_so_far: each of its events has counts. with_prompt_details: the counts at the end say how many
    of the prompts' tokens were cached. cache_salt: a digest of the request's (`Generate` of boundary/messages.py).
    """

    format: AnswerFormat
    prompts: list[Prompt]
    sampling: list[SamplingParams]
    asked: Asked
    n: int
    stops: tuple[str, ...]
    end_token_ids: frozenset[int]
    include_stop: bool
    stream: bool
    with_usage: bool
    with_usage_so_far: bool
    with_prompt_details: bool
    cache_salt: bytes
    arrived_at: float

    @property
    def prompt_by_choice(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts for _ in range(self.n)]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts together; each prompt counts once."""
        return sum(len(prompt.token_ids) for prompt in self.prompts)

    @property
    def cost(self) -> int:
        """Bytes that the job takes, as `http/memory.py` counts them, without the answer."""
        echoed = sum(len(prompt.echo) for prompt in self.prompts)
        return TOKEN_ID * self.prompt_tokens + SEQUENCE * len(self.prompts) * self.n + echoed


def job_of(
    request: CompletionRequest | ChatCompletionRequest,
    prompts: list[Prompt],
    format: AnswerFormat,
    model: ServedModel,
    arrived_at: float,
    *,
    with_prompt_details: bool,
) -> Job:
    """Raises `ApiError` (400) if the request does not fit the model."""
    options = request.stream_options
    with_usage = bool(options and options.include_usage)
    return Job(
        format=format,
        prompts=prompts,
        sampling=[sampling_params(request, len(prompt.token_ids), model) for prompt in prompts],
        asked=asked_logprobs(request),
        n=request.n or 1,
        stops=stop_strings(request),
        end_token_ids=model.end_token_ids,
        include_stop=bool(request.include_stop_str_in_output),
        stream=bool(request.stream),
        with_usage=with_usage,
        with_usage_so_far=with_usage and bool(options and options.continuous_usage_stats),
        with_prompt_details=with_prompt_details,
        cache_salt=sha256(request.cache_salt.encode()).digest() if request.cache_salt else b"",
        arrived_at=arrived_at,
    )
