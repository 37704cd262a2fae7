"""The counts of tokens at the end of one answer, streamed or whole: its `usage`."""

from lab_support.frontend.answer.choice import Choice
from lab_support.frontend.answer.job import Job
from lab_support.frontend.request.openai_api import PromptTokensDetails, Usage


class TokenCounts:
    """Adds up the choices of one answer as they end."""

    __slots__ = ("_cached", "_completion", "_n", "_prompt", "_with_details")

    def __init__(self, job: Job) -> None:
        self._prompt = job.prompt_tokens
        self._n = job.n
        self._with_details = job.with_prompt_details
        self._completion = self._cached = 0

    def ended(self, choice: Choice) -> None:
        self._completion += choice.tokens
        if choice.index % self._n == 0:  # further choices of a prompt find what the first one has left there
            self._cached += choice.cached_tokens

    def usage(self) -> Usage:
        usage = Usage(self._prompt, self._completion, self._prompt + self._completion)
        if self._with_details:
            usage.prompt_tokens_details = PromptTokensDetails(self._cached)
        return usage
