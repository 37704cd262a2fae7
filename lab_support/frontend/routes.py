"""The HTTP application of an API server: every route, and its guards.

Runs in API servers only, in one event loop. `build_app` is the only entry. The routes that make text are in
`generate_routes.py`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from lab_support.config import ServerConfig
from lab_support.frontend.app_state import AppState, Identity, InFlight
from lab_support.frontend.generate_routes import Generate
from lab_support.frontend.http.body import BodyReader, ClientGone
from lab_support.frontend.http.errors import bad_request
from lab_support.frontend.http.memory import TOKEN_ID, MemoryBudget
from lab_support.frontend.http.middleware import ApiKey, Errors, Served
from lab_support.frontend.http.origins import Origins
from lab_support.frontend.http.page import Page
from lab_support.frontend.http.response import respond, respond_leased
from lab_support.frontend.metrics.metrics import CONTENT_TYPE, Metrics
from lab_support.frontend.request import openapi
from lab_support.frontend.request.openai_api import (
    Detokenized,
    DetokenizeRequest,
    ModelCard,
    ModelList,
    SamplingFrom,
    ServerLoad,
    StartMethod,
    Tokenized,
    TokenizeRequest,
    Version,
)
from lab_support.frontend.request.parsing import Messages, RequestParser
from lab_support.frontend.request.prompts import PromptReader
from lab_support.frontend.request.served_model import ServedModel
from lab_support.frontend.routing.engine_client import EngineClient
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.frontend.trace.request_trace import Requests
from lab_support.model_folder import ModelFolder
from lab_support.tracing.trace import NoTrace, Trace

MIB = 1024 * 1024
OPEN_PATHS = frozenset({"/health", "/ping", "/", "/docs"})


def build_app(
    config: ServerConfig,
    folder: ModelFolder,
    tokenizer: Tokenizer,
    engine_client: EngineClient,
    counters: InFlight,
    identity: Identity,
    trace: Trace | None = None,
) -> Served:
    """The ASGI application of one API server. Sets `engine_client.on_stats`. trace: of this process."""
    index, slot = identity.api_server_index, engine_client.client_index
    metrics = Metrics(config.model_name, engine_client.engine_count, index, slot)
    engine_client.on_stats = metrics.on_stats
    state = AppState(
        config,
        folder,
        tokenizer,
        engine_client,
        counters,
        identity,
        metrics,
        memory=MemoryBudget(config.api_server_memory_mib * MIB),
        bodies=BodyReader(config.max_body_bytes, config.body_timeout),
        prompts=PromptReader(tokenizer, metrics.server.tokenized),
        traces=Requests(trace or NoTrace()),
    )
    generate, texts, about = Generate(state), Texts(state), About(state)
    page = Page()
    routes = [
        _route("/", page.show, "GET"),
        _route("/docs", page.show, "GET"),
        _route("/v1/completions", generate.completions, "POST"),
        _route("/v1/chat/completions", generate.chat_completions, "POST"),
        _route("/v1/models", about.models, "GET"),
        _route("/v1/models/{model_id:path}", about.model, "GET"),
        _route("/tokenize", texts.tokenize, "POST"),
        _route("/detokenize", texts.detokenize, "POST"),
        _route("/health", about.health, "GET"),
        _route("/ping", about.health, "GET", "POST"),
        _route("/version", about.version, "GET"),
        _route("/load", about.load, "GET"),
        _route("/metrics", about.metrics, "GET"),
        _route("/openapi.json", about.openapi, "GET"),
    ]
    app: ASGIApp = Errors(Router(routes, redirect_slashes=False))
    if config.api_key:
        app = ApiKey(app, config.api_key, OPEN_PATHS)
    app = Origins(app, config.host, config.allowed_origins)
    return Served(app, identity.title, metrics.server.answered, metrics.publish, state.memory)


class Texts:
    """/tokenize and /detokenize: these need the model's tokenizer, but not the model."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._tokenize_parser = RequestParser(TokenizeRequest)
        self._detokenize_parser = RequestParser(DetokenizeRequest)

    async def tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = self._state
        with state.memory.lease() as lease:
            body = await state.bodies.read(scope, receive, lease)
            request, messages = self._tokenize_parser.parse_conversation(body)
            model = state.model
            model.check_name(request.model)
            tokens = await self._tokens(request, messages, model)
            lease.set_held((2 if request.return_token_strs else 1) * TOKEN_ID * len(tokens))
            strings = await state.prompts.token_texts(tokens) if request.return_token_strs else None
            answer = msgspec.json.encode(Tokenized(len(tokens), model.max_model_len, tokens, strings))
            await respond_leased(scope, send, answer, lease)

    async def detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = self._state
        with state.memory.lease() as lease:
            request = self._detokenize_parser.parse(await state.bodies.read(scope, receive, lease))
            model = state.model
            model.check_name(request.model)
            if request.tokens and (highest := max(request.tokens)) >= model.vocab_size:
                raise bad_request(f"tokens: got {highest}, allowed are 0 to {model.vocab_size - 1}", "tokens")
            answer = msgspec.json.encode(Detokenized(await state.prompts.decode(request.tokens)))
            await respond_leased(scope, send, answer, lease)

    async def _tokens(self, request: TokenizeRequest, messages: Messages, model: ServedModel) -> list[int]:
        if bool(messages) == isinstance(request.prompt, str):
            raise bad_request("got both or neither of `prompt` and `messages`, allowed is exactly one", "prompt")
        prompts = self._state.prompts
        if messages:
            with_opening = request.add_generation_prompt is not False
            return await prompts.chat(messages, model, with_opening, bool(request.add_special_tokens))
        text = request.prompt
        assert isinstance(text, str)
        return await prompts.encode(text, request.add_special_tokens is not False, len(text), "prompt")


class About:
    """The routes on which the server describes itself."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state.check_ready()
        await respond(send, 200, b"")

    async def version(self, scope: Scope, receive: Receive, send: Send) -> None:
        own, config = self._state.identity, self._state.config
        chosen = own.engine_cores_started_by
        method = StartMethod(chosen.method, "spawn", chosen.asked, chosen.asked_by, list(chosen.reasons))
        answer = Version(
            own.version,
            own.run_id,
            own.api_server_index,
            own.pids,
            config.accept,
            method,
            SamplingFrom(config.generation_config, self._state.model.sampling.given),
            self._state.engine_client.device or config.device,
            self._state.engine_client.stand_in or None,
            config.batching,
        )
        await respond(send, 200, msgspec.json.encode(answer))

    async def load(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, msgspec.json.encode(ServerLoad(self._state.counters.total())))

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        engines = self._state.engine_client
        self._state.metrics.describe(engines.device, engines.stand_in, self._state.config.batching)
        await respond(send, 200, self._state.metrics.render(), CONTENT_TYPE)

    async def openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, model = self._state, self._state.model
        shortest = await state.prompts.shortest_chat(model)
        with_key, stand_in = bool(state.config.api_key), state.engine_client.stand_in
        document = openapi.document(model, state.identity.version, with_key, shortest, stand_in)
        await respond(send, 200, msgspec.json.encode(document))

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        cards = [self._card(name) for name in self._state.model.names]
        await respond(send, 200, msgspec.json.encode(ModelList("list", cards)))

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["model_id"]
        self._state.model.check_name(name)
        await respond(send, 200, msgspec.json.encode(self._card(name)))

    def _card(self, name: str) -> ModelCard:
        model = self._state.model
        return ModelCard(name, "model", self._state.identity.started_at, "lab", model.name, model.max_model_len)


# ---- plumbing -------------------------------------------------------------------------------------------------------

AsgiFunction = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Makes a function an ASGI app: Starlette would treat a plain one as `func(request) -> response`."""

    function: AsgiFunction

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.function(scope, receive, send)
        except ClientGone:
            return


def _route(path: str, function: AsgiFunction, *methods: str) -> Route:
    return Route(path, _Endpoint(function), methods=methods, name=path)
