"""An answer that is not streamed: collects the text of all choices and sends one body when the last choice ends."""

from dataclasses import dataclass, field

from lab_support.boundary.messages import SequenceTokens
from lab_support.frontend.answer.answer_format import (
    CollectedLogprobs,
    CollectedPrompt,
    Entries,
    FinishedChoice,
)
from lab_support.frontend.answer.choice import Choice
from lab_support.frontend.answer.job import Job
from lab_support.frontend.answer.token_counts import TokenCounts
from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.memory import Lease
from lab_support.frontend.http.response import JSON, CallbackWriter, Headers
from lab_support.frontend.request.openai_api import Finish
from lab_support.frontend.request.prompt_logprobs import PromptCursor, cut, speller_of
from lab_support.frontend.request.prompts import Prompt
from lab_support.frontend.text.speller import Speller
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.generation import TokenLogprobs

_PIECE = 60  # bytes that a piece of text takes besides its characters


@dataclass(slots=True)
class _Collected:
    """speller: set if the answer has log-probabilities. cursor: set if it has those of the prompt."""

    pieces: list[str]
    speller: Speller | None
    cursor: PromptCursor | None
    logprobs: CollectedLogprobs = field(default_factory=CollectedLogprobs)
    prompt: CollectedPrompt = field(default_factory=CollectedPrompt)
    finish: Finish | None = None


class WholeAnswer:
    """All choices of one request, counted by `lease`. `headers` is filled before the first token can come."""

    def __init__(self, job: Job, writer: CallbackWriter, tokenizer: Tokenizer, lease: Lease) -> None:
        self._writer = writer
        self._lease = lease
        self._format = job.format
        self._tokenizer = tokenizer
        self._counts = TokenCounts(job)
        self._asked = job.asked
        self._choices = [self._collected(prompt) for prompt in job.prompt_by_choice]
        self._open = len(self._choices)
        self.headers: Headers = []
        self.failed = False

    def on_prompt(self, choice: Choice, logprobs: list[TokenLogprobs]) -> None:
        if self.failed:
            return
        collected, asked, size = self._choices[choice.index], self._asked, 0
        assert collected.cursor is not None
        ids, entries = collected.cursor.take(logprobs)
        if asked.echoed is not None:
            size += self._add_logprobs(collected, ids, cut(entries, asked.echoed), collected.cursor.at_end)
            if collected.cursor.at_end and collected.speller:
                collected.speller.offset = len(collected.pieces[0])
        if asked.prompt is not None:
            size += collected.prompt.add(ids, entries, asked.prompt, self._tokenizer)
        self._lease.take(size)

    def on_text(self, choice: Choice, text: str, tokens: SequenceTokens, finish: Finish | None) -> None:
        if self.failed:  # by another choice, a moment ago
            return
        collected = self._choices[choice.index]
        if collected.cursor is not None and collected.cursor.at_start:  # a prompt of one token has no log-probabilities
            self.on_prompt(choice, [])
        collected.pieces.append(text)
        size = len(text) + _PIECE
        if self._asked.tokens and tokens.logprobs:
            size += self._add_logprobs(collected, tokens.token_ids, tokens.logprobs, finish is not None)
        if not self._lease.take(size):
            return  # the lease has been revoked, so this answer has failed
        if finish is not None:
            collected.finish = finish
            self._counts.ended(choice)
            self._open -= 1
            if not self._open:
                self._send(200, self._body())

    def fail(self, error: ApiError) -> None:
        """Answer with `error`. Only the first call counts."""
        if not self.failed:
            self.failed = True
            self.headers += error.headers
            self._send(error.status, error.body())

    def _collected(self, prompt: Prompt) -> _Collected:
        asked = self._asked
        cursor = PromptCursor(prompt.token_ids) if asked.of_prompt is not None else None
        speller = speller_of(self._tokenizer, prompt, asked) if asked.tokens else None
        return _Collected([prompt.echo], speller, cursor)

    def _add_logprobs(self, collected: _Collected, ids: list[int], entries: Entries, last: bool) -> int:
        assert collected.speller is not None
        return collected.logprobs.add(self._format.logprobs(ids, entries, collected.speller, last))

    def _body(self) -> bytes:
        finished = [self._finished(index, collected) for index, collected in enumerate(self._choices)]
        return self._format.body(finished, self._counts.usage())

    def _finished(self, index: int, collected: _Collected) -> FinishedChoice:
        assert collected.finish is not None
        logprobs, prompt = collected.logprobs.whole(), collected.prompt.whole()
        return FinishedChoice(index, "".join(collected.pieces), collected.finish, logprobs, prompt)

    def _send(self, status: int, body: bytes) -> None:
        self._choices.clear()
        self._lease.give_back(self._lease.held)  # the writer counts whatever it can't send at once
        self._writer.start(status, JSON, self.headers, body)
        self._writer.end(body)
