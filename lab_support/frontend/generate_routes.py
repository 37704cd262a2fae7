"""The two routes that make text: from a parsed request to submitted sequences and, when the client leaves, to aborts.

The request's one task waits for `receive()`; the answer is sent from the callbacks that bring the tokens, and when
it is complete uvicorn says "disconnect" to `receive()` just as it does when the client hangs up.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic, time
from typing import Protocol

from starlette.types import Receive, Scope, Send

from lab_support.boundary.messages import EngineCoreGone
from lab_support.boundary.room import Places
from lab_support.frontend.answer_format import AnswerFormat, ChatFormat, CompletionFormat, Heading
from lab_support.frontend.body import BodyReader
from lab_support.frontend.choice import Choice
from lab_support.frontend.engine_client import EngineClient
from lab_support.frontend.errors import bad_request, from_fatal, unavailable
from lab_support.frontend.memory import SEQUENCE, TOKEN_ID, Lease, MemoryBudget, no_room
from lab_support.frontend.metrics import Metrics
from lab_support.frontend.openai_api import ChatCompletionRequest, CompletionRequest
from lab_support.frontend.parsing import RequestParser, messages_of
from lab_support.frontend.prompt_logprobs import Asked
from lab_support.frontend.prompts import Limits, Prompt, PromptReader, prompts_of
from lab_support.frontend.response import CUT_OFF, GIVEN_UP, CallbackWriter, RequestRecord, record_of
from lab_support.frontend.sampling import (
    asked_logprobs,
    check_together,
    derived_seed,
    sampling_params,
    stop_strings,
)
from lab_support.frontend.stop_strings import StopStrings
from lab_support.frontend.streaming import EventStream
from lab_support.frontend.tokenizer import Tokenizer
from lab_support.frontend.whole_answer import WholeAnswer
from lab_support.generation import SamplingParams

KEPT = 4  # one of so many connections is kept for requests that are not for text


class InFlight(Protocol):
    """`boundary/counters.py`: this API server's own counts, and the sums over all of them."""

    requests_in_flight: int
    sequences_in_flight: int

    def total(self) -> int: ...

    def total_sequences(self) -> int: ...


class Admission:
    """Counts requests in flight, and refuses new ones that could not be answered or whose sequences are too many.

    A request is for its prompts times n sequences, and these are what an engine core has to make: `limit` (0: none)
    is on them. The sum is read and the own count raised without a lock, so that API servers which admit at the same
    instant may go over the limit by what the others admit then.

    Of the connections that this API server has descriptors for, a quarter are kept for other requests: `/health` is
    answered however many streams run.
    """

    def __init__(self, limit: int, counters: InFlight, engine_client: EngineClient, metrics: Metrics) -> None:
        self._limit = limit
        self._counters = counters
        self._engine_client = engine_client
        self._metrics = metrics
        self._places = Places()

    def check_open(self) -> None:
        """Could a request for one sequence be admitted? Raises `ApiError` (503)."""
        check_alive(self._engine_client)
        if not self._engine_client.ready:
            raise unavailable("the engine cores are still starting", "not_ready")
        self._check_descriptors()
        self._check_room(1)

    @contextmanager
    def admitted(self, sequences: int) -> Iterator[None]:
        """Raises `ApiError` (400, 503) at entry. To be entered with a request that is whole: only that takes room."""
        if 0 < self._limit < sequences:
            raise bad_request(
                f"got {sequences} sequences, which is prompts times n, allowed are {self._limit} "
                "(--max-num-queued-reqs); send several smaller requests",
                code="too_many_sequences",
            )
        self.check_open()
        self._check_room(sequences)
        self._counters.requests_in_flight += 1
        self._counters.sequences_in_flight += sequences
        try:
            yield
        finally:
            self._counters.requests_in_flight -= 1
            self._counters.sequences_in_flight -= sequences

    def _check_room(self, sequences: int) -> None:
        in_flight = self._counters.total_sequences()
        if self._limit and in_flight + sequences > self._limit:
            self._metrics.server.rejected()
            raise unavailable(
                f"too many sequences: got {sequences} more with {in_flight} in flight, allowed are {self._limit} "
                "at once; try again",
                "overloaded",
            )

    def _check_descriptors(self) -> None:
        places = self._places.count()
        most = places - places // KEPT
        if self._counters.requests_in_flight >= most:
            self._metrics.server.rejected()
            raise unavailable(
                f"too many requests: got one more with {most} in flight, and the others of {places} descriptors for "
                "connections are kept for requests that take no time; try again, or raise `ulimit -n`",
                "overloaded",
            )


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request: what to generate from each prompt and how to answer. One `SamplingParams` for each prompt."""

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
    arrived_at: float

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.token_ids) for prompt in self.prompts)

    @property
    def cost(self) -> int:
        """Bytes that it takes, as `memory.py` counts them, without what is answered."""
        echoed = sum(len(prompt.echo) for prompt in self.prompts)
        return TOKEN_ID * self.prompt_tokens + SEQUENCE * len(self.prompts) * self.n + echoed


class LimitsNow(Protocol):
    """The model's limits, which the engine cores tell when they are ready."""

    def __call__(self) -> Limits: ...


class Generate:
    """The ASGI endpoints `completions` and `chat_completions`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        engine_client: EngineClient,
        limits: LimitsNow,
        bodies: BodyReader,
        prompts: PromptReader,
        admission: Admission,
        metrics: Metrics,
        memory: MemoryBudget,
    ) -> None:
        self._tokenizer = tokenizer
        self._memory = memory
        self._engine_client = engine_client
        self._limits = limits
        self._bodies = bodies
        self._prompts = prompts
        self._admission = admission
        self._metrics = metrics
        self._completion_parser = RequestParser(CompletionRequest)
        self._chat_parser = RequestParser(ChatCompletionRequest)

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/completions."""
        arrived_at = monotonic()
        self._admission.check_open()
        with self._memory.lease() as lease:
            request = self._completion_parser.parse(await self._bodies.read(scope, receive, lease))
            limits = self._limits()
            limits.check_model(request.model)
            check_together(request)
            given = prompts_of(request.prompt)
            with self._admission.admitted(len(given) * (request.n or 1)):
                prompts = await self._prompts.completion(given, request, limits)
                job = _job(
                    request, prompts, CompletionFormat(_heading("cmpl-", request, scope, limits)), limits, arrived_at
                )
                del request, given  # their texts, which may be megabytes: all that is needed is in the job
                await self._run(job, scope, receive, send, lease)

    async def chat_completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions."""
        arrived_at = monotonic()
        self._admission.check_open()
        with self._memory.lease() as lease:
            body = await self._bodies.read(scope, receive, lease)
            request = self._chat_parser.parse(body)
            limits = self._limits()
            limits.check_model(request.model)
            check_together(request)
            with self._admission.admitted(request.n or 1):
                messages = messages_of(body)
                del body
                request.messages.clear()  # their texts are in `messages`, and memory has room for them once
                lease.demand(lease.held)  # what the template makes of the messages, which are still needed meanwhile
                special = bool(request.add_special_tokens)
                prompt = Prompt(await self._prompts.chat(messages, limits, special=special))
                job = _job(
                    request, [prompt], ChatFormat(_heading("chatcmpl-", request, scope, limits)), limits, arrived_at
                )
                del request, messages
                await self._run(job, scope, receive, send, lease)

    async def _run(self, job: Job, scope: Scope, receive: Receive, send: Send, lease: Lease) -> None:
        check_alive(self._engine_client)  # again: its text took time to be tokenized, and nobody would answer it now
        request = asyncio.current_task()
        assert request
        lease.hold(job.cost)
        writer = CallbackWriter(send, record_of(scope).send_body, lease, on_broken=request.cancel)
        answer = self._answer(job, writer, lease)
        choices: list[Choice] = []
        lease.on_revoke = lambda: _give_up(answer, writer, choices, scope)
        try:
            self._submit(job, answer, choices)
            await _end_or_hang_up(receive)
        except EngineCoreGone as gone:
            raise unavailable(str(gone), "server_ended") from gone
        finally:
            lease.on_revoke = None
            for choice in choices:
                choice.abandon()
            writer.close()
            _record(record_of(scope), job, choices)

    def _answer(self, job: Job, writer: CallbackWriter, lease: Lease) -> EventStream | WholeAnswer:
        prompts = [prompt for prompt in job.prompts for _ in range(job.n)]
        if job.stream:
            return EventStream(
                writer,
                job.format,
                self._tokenizer,
                prompts,
                job.prompt_tokens,
                job.asked,
                job.with_usage,
                job.with_usage_so_far,
            )
        return WholeAnswer(writer, lease, job.format, self._tokenizer, prompts, job.prompt_tokens, job.asked)

    def _submit(self, job: Job, answer: EventStream | WholeAnswer, choices: list[Choice]) -> None:
        """Submit all sequences of a request and add them to `choices`. Raises `EngineCoreGone`.

        No token can come before it returns: both run in the event loop.
        """
        parent = self._engine_client.new_parent()
        for prompt, sampling in zip(job.prompts, job.sampling, strict=True):
            for number in range(job.n):
                choice = self._choice(job, answer, len(choices), prompt, sampling)
                own = sampling if sampling.seed is None else replace(sampling, seed=derived_seed(sampling.seed, number))
                choice.submitted = self._engine_client.submit(prompt.token_ids, own, choice, parent_id=parent)
                choice.meter = self._metrics.engines[choice.submitted.engine_index]
                choices.append(choice)
                choice.meter.submitted(len(prompt.token_ids))
        engines = sorted({choice.submitted.engine_index for choice in choices})
        answer.headers.append((b"x-engine", ",".join(map(str, engines)).encode()))

    def _choice(
        self, job: Job, answer: EventStream | WholeAnswer, index: int, prompt: Prompt, sampling: SamplingParams
    ) -> Choice:
        return Choice(
            answer=answer,
            index=index,
            detokenizer=self._tokenizer.detokenizer(prompt.context),
            stops=StopStrings(job.stops, job.include_stop) if job.stops else None,
            hidden_stop_ids=job.end_token_ids.union(() if job.include_stop else sampling.stop_token_ids),
            min_tokens=sampling.min_tokens,
            abort=self._engine_client.abort,
            arrived_at=job.arrived_at,
        )


def _job(
    request: CompletionRequest | ChatCompletionRequest,
    prompts: list[Prompt],
    format: AnswerFormat,
    limits: Limits,
    arrived_at: float,
) -> Job:
    options = request.stream_options
    with_usage = bool(options and options.include_usage)
    return Job(
        format=format,
        prompts=prompts,
        sampling=[sampling_params(request, len(prompt.token_ids), limits) for prompt in prompts],
        asked=asked_logprobs(request),
        n=request.n or 1,
        stops=stop_strings(request),
        end_token_ids=limits.end_token_ids,
        include_stop=bool(request.include_stop_str_in_output),
        stream=bool(request.stream),
        with_usage=with_usage,
        with_usage_so_far=with_usage and bool(options and options.continuous_usage_stats),
        arrived_at=arrived_at,
    )


def check_alive(engine_client: EngineClient) -> None:
    """Raises `ApiError` (503) where the server has to end, with what ended it."""
    if engine_client.fatal is not None:
        raise from_fatal(engine_client.fatal)


def _heading(prefix: str, request: CompletionRequest | ChatCompletionRequest, scope: Scope, limits: Limits) -> Heading:
    record = record_of(scope)
    if request.request_id is not None and not record.named_by_header:
        record.request_id = request.request_id
    return Heading(prefix + record.request_id, int(time()), limits.model_name)


def _give_up(answer: EventStream | WholeAnswer, writer: CallbackWriter, choices: list[Choice], scope: Scope) -> None:
    """The server's memory is full, and this request holds most of it.

    A client that reads again hears why: what is queued makes way for an error event. Where no word fits in any more,
    because a body of known length has begun or the last piece is on its way, its connection ends.
    """
    for choice in choices:
        choice.abandon()
    writer.forget_queued()
    if writer.ending or (writer.started and isinstance(answer, WholeAnswer)):
        scope[CUT_OFF](GIVEN_UP)
    else:
        answer.fail(no_room())


async def _end_or_hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _record(record: RequestRecord, job: Job, choices: list[Choice]) -> None:
    record.prompt_tokens = job.prompt_tokens
    record.completion_tokens = sum(choice.tokens for choice in choices)
