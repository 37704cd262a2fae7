"""The two routes that make text: they turn a parsed request into sequences, and abort these when the client leaves.

The request's one task waits for `receive()`. The callbacks that bring the tokens send the answer, and when it is
complete `receive()` returns uvicorn's "disconnect", just as it does when the client hangs up.
"""

import asyncio
from dataclasses import replace
from time import monotonic, time

from starlette.types import Receive, Scope, Send

from lab_support.boundary.messages import EngineCoreGone
from lab_support.frontend.admission import Admission
from lab_support.frontend.answer.answer_format import ChatFormat, CompletionFormat, Heading
from lab_support.frontend.answer.choice import Choice
from lab_support.frontend.answer.interval import SpacedStream
from lab_support.frontend.answer.job import Job, job_of
from lab_support.frontend.answer.stop_strings import StopStrings
from lab_support.frontend.answer.streaming import EventStream
from lab_support.frontend.answer.whole_answer import WholeAnswer
from lab_support.frontend.app_state import AppState
from lab_support.frontend.http.errors import unavailable
from lab_support.frontend.http.memory import Lease, no_room
from lab_support.frontend.http.response import CUT_OFF, GIVEN_UP, SEND_CHUNK, CallbackWriter, RequestRecord, record_of
from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest
from lab_support.frontend.request.parsing import RequestParser
from lab_support.frontend.request.prompts import Prompt, prompts_of
from lab_support.frontend.request.sampling import check_together, derived_seed
from lab_support.frontend.request.stand_in import check_without_probabilities
from lab_support.frontend.trace.request_trace import Untraced
from lab_support.generation import SamplingParams

AnyAnswer = EventStream | SpacedStream | WholeAnswer


class Generate:
    """The ASGI endpoints `completions` and `chat_completions`."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._admission = Admission(state)
        self._with_details = state.config.enable_prompt_tokens_details
        self._completion_parser = RequestParser(CompletionRequest)
        self._chat_parser = RequestParser(ChatCompletionRequest)

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/completions."""
        arrived_at, state = monotonic(), self._state
        trace = record_of(scope).trace = state.traces.begin(scope)
        self._admission.check_open()
        with state.memory.lease() as lease:
            request = self._completion_parser.parse(await state.bodies.read(scope, receive, lease))
            model = state.model
            model.check_name(request.model)
            check_together(request)
            check_without_probabilities(request, state.engine_client.stand_in)
            given = prompts_of(request.prompt)
            trace.parsed(_name(record_of(scope), request))
            with self._admission.admitted(len(given) * (request.n or 1)):
                prompts = await state.prompts.completion(given, request, model)
                format = CompletionFormat(_heading("cmpl-", scope, model.name))
                job = job_of(request, prompts, format, model, arrived_at, with_prompt_details=self._with_details)
                trace.tokenised(job.prompt_tokens)
                del request, given  # free their texts, maybe megabytes: the job has all that is needed
                await self._run(job, scope, receive, send, lease)

    async def chat_completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions."""
        arrived_at, state = monotonic(), self._state
        trace = record_of(scope).trace = state.traces.begin(scope)
        self._admission.check_open()
        with state.memory.lease() as lease:
            body = await state.bodies.read(scope, receive, lease)
            request, messages = self._chat_parser.parse_conversation(body)
            del body
            model = state.model
            model.check_name(request.model)
            check_together(request)
            check_without_probabilities(request, state.engine_client.stand_in)
            trace.parsed(_name(record_of(scope), request))
            with self._admission.admitted(request.n or 1):
                lease.demand(lease.held)  # for the template's text, because the messages are still needed meanwhile
                special = bool(request.add_special_tokens)
                prompt = Prompt(await state.prompts.chat(messages, model, special=special))
                format = ChatFormat(_heading("chatcmpl-", scope, model.name))
                job = job_of(request, [prompt], format, model, arrived_at, with_prompt_details=self._with_details)
                trace.tokenised(job.prompt_tokens)
                del request, messages
                await self._run(job, scope, receive, send, lease)

    async def _run(self, job: Job, scope: Scope, receive: Receive, send: Send, lease: Lease) -> None:
        self._state.check_alive()  # again, because an engine core may have ended while the text was tokenized
        request = asyncio.current_task()
        assert request
        lease.set_held(job.cost)
        writer = CallbackWriter(send, record_of(scope).send_body, scope[SEND_CHUNK], lease, on_broken=request.cancel)
        answer = self._answer(job, writer, lease)
        choices: list[Choice] = []
        lease.on_revoke = lambda: _give_up(answer, writer, choices, scope)
        try:
            self._submit(job, answer, choices, record_of(scope).trace)
            await _end_or_hang_up(receive)
        except EngineCoreGone as gone:
            raise unavailable(str(gone), "server_ended") from gone
        finally:
            lease.on_revoke = None
            for choice in choices:
                choice.abandon()
            writer.close()
            _record(record_of(scope), job, choices)

    def _answer(self, job: Job, writer: CallbackWriter, lease: Lease) -> AnyAnswer:
        if not job.stream:
            return WholeAnswer(job, writer, self._state.tokenizer, lease)
        stream, interval = EventStream(job, writer, self._state.tokenizer), self._state.config.stream_interval
        return stream if interval == 1 else SpacedStream(stream, interval, len(job.prompt_by_choice))

    def _submit(self, job: Job, answer: AnyAnswer, choices: list[Choice], trace: Untraced) -> None:
        """Submit all sequences of a request and add them to `choices`. Raises `EngineCoreGone`.

        No token can come before it returns, because both run in the event loop.
        """
        engine_client, metrics = self._state.engine_client, self._state.metrics
        parent = engine_client.new_parent()
        for prompt, sampling in zip(job.prompts, job.sampling, strict=True):
            for number in range(job.n):
                choice = self._choice(job, answer, len(choices), prompt, sampling)
                own = sampling if sampling.seed is None else replace(sampling, seed=derived_seed(sampling.seed, number))
                begun = trace.sending()
                sent = choice.submitted = engine_client.submit(
                    prompt.token_ids, own, choice, parent_id=parent, cache_salt=job.cache_salt
                )
                meter = metrics.engines[sent.engine_index]
                choice.meter = trace.sent(begun, sent.request_id, sent.engine_index, meter)
                choices.append(choice)
                choice.meter.submitted(len(prompt.token_ids))
        engines = sorted({choice.submitted.engine_index for choice in choices})
        answer.headers.append((b"x-engine", ",".join(map(str, engines)).encode()))
        if engine_client.stand_in:
            answer.headers.append((b"x-stand-in", engine_client.stand_in.encode()))

    def _choice(self, job: Job, answer: AnyAnswer, index: int, prompt: Prompt, sampling: SamplingParams) -> Choice:
        return Choice(
            answer=answer,
            index=index,
            detokenizer=self._state.tokenizer.detokenizer(prompt.context),
            stops=StopStrings(job.stops, job.include_stop) if job.stops else None,
            hidden_stop_ids=job.end_token_ids.union(() if job.include_stop else sampling.stop_token_ids),
            min_tokens=sampling.min_tokens,
            abort=self._state.engine_client.abort,
            arrived_at=job.arrived_at,
        )


def _name(record: RequestRecord, request: CompletionRequest | ChatCompletionRequest) -> str:
    """The request's id: by its header, by its body, or else our own."""
    if request.request_id is not None and not record.named_by_header:
        record.request_id = request.request_id
    return record.request_id


def _heading(prefix: str, scope: Scope, model: str) -> Heading:
    return Heading(prefix + record_of(scope).request_id, int(time()), model)


def _give_up(answer: AnyAnswer, writer: CallbackWriter, choices: list[Choice], scope: Scope) -> None:
    """Give up this request, because the server's memory is full and it holds most of it.

    A client that reads again is told why: an error event replaces the queue. If no event fits any more, because a body
    of known length has begun or the last piece is on its way, the connection is cut off.
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
