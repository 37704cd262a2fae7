"""The HTTP application of an API server: every route, and what guards it.

Runs in API servers only, in one event loop. `build_app` is the one entry. What makes text is in `generate_routes.py`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from lab_support.boundary.start_rule import Choice
from lab_support.config import ServerConfig
from lab_support.frontend import openapi
from lab_support.frontend.body import BodyReader, ClientGone
from lab_support.frontend.engine_client import EngineClient
from lab_support.frontend.errors import bad_request, unavailable
from lab_support.frontend.generate_routes import Admission, Generate, InFlight, check_alive
from lab_support.frontend.memory import TOKEN_ID, MemoryBudget
from lab_support.frontend.metrics import CONTENT_TYPE, Metrics
from lab_support.frontend.middleware import ApiKey, Errors, Served
from lab_support.frontend.openai_api import (
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
from lab_support.frontend.origins import Origins
from lab_support.frontend.page import Page
from lab_support.frontend.parsing import RequestParser, messages_of
from lab_support.frontend.prompts import Limits, PromptReader
from lab_support.frontend.response import respond, respond_leased
from lab_support.frontend.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder

MIB = 1024 * 1024
OPEN_PATHS = frozenset({"/health", "/ping", "/", "/docs"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers. `started_at`: seconds since 1970; `pids`: process ids by title."""

    api_server_index: int
    run_id: str
    version: str
    started_at: int
    pids: dict[str, int] = field(default_factory=dict)
    engine_cores_started_by: Choice = field(default_factory=Choice)

    @property
    def title(self) -> str:
        return f"api-{self.api_server_index}"


def build_app(
    config: ServerConfig,
    folder: ModelFolder,
    tokenizer: Tokenizer,
    engine_client: EngineClient,
    counters: InFlight,
    identity: Identity,
) -> Served:
    """The ASGI application of one API server. Sets `engine_client.on_stats`."""
    index, slot = identity.api_server_index, engine_client.client_index
    metrics = Metrics(config.model_name, engine_client.engine_count, index, slot)
    engine_client.on_stats = metrics.on_stats
    limits = ModelLimits(config, folder, engine_client)
    memory = MemoryBudget(config.api_server_memory_mib * MIB)
    bodies = BodyReader(config.max_body_bytes, config.body_timeout)
    prompts = PromptReader(tokenizer, metrics.server.tokenized)
    admission = Admission(config.max_num_queued_reqs, counters, engine_client, metrics)
    generate = Generate(tokenizer, engine_client, limits, bodies, prompts, admission, metrics, memory)
    texts = Texts(limits, bodies, prompts, memory)
    about = About(config, limits, engine_client, counters, identity, prompts, metrics)
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
    return Served(app, identity.title, metrics.server.answered, metrics.publish, memory)


class ModelLimits:
    """The model's limits as the engine cores told them, or, before that, as its folder and the flags say."""

    def __init__(self, config: ServerConfig, folder: ModelFolder, engine_client: EngineClient) -> None:
        self._config = config
        self._folder = folder
        self._engine_client = engine_client

    def __call__(self) -> Limits:
        folder, config = self._folder, self._config
        length = self._engine_client.max_model_len or config.max_model_len or folder.shape.context_length
        return Limits(
            config.model_name,
            length,
            folder.shape.vocab_size,
            end_token_ids=folder.end_token_ids,
            sampling=folder.sampling,
            all_names=config.model_names,
        )


class Texts:
    """/tokenize and /detokenize: the model's tokens without the model."""

    def __init__(self, limits: ModelLimits, bodies: BodyReader, prompts: PromptReader, memory: MemoryBudget) -> None:
        self._memory = memory
        self._limits = limits
        self._bodies = bodies
        self._prompts = prompts
        self._tokenize_parser = RequestParser(TokenizeRequest)
        self._detokenize_parser = RequestParser(DetokenizeRequest)

    async def tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._memory.lease() as lease:
            body = await self._bodies.read(scope, receive, lease)
            request = self._tokenize_parser.parse(body)
            limits = self._limits()
            limits.check_model(request.model)
            tokens = await self._tokens(request, body, limits)
            lease.hold((2 if request.return_token_strs else 1) * TOKEN_ID * len(tokens))
            strings = await self._prompts.token_texts(tokens) if request.return_token_strs else None
            answer = msgspec.json.encode(Tokenized(len(tokens), limits.max_model_len, tokens, strings))
            await respond_leased(scope, send, answer, lease)

    async def detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._memory.lease() as lease:
            request = self._detokenize_parser.parse(await self._bodies.read(scope, receive, lease))
            limits = self._limits()
            limits.check_model(request.model)
            if request.tokens and (highest := max(request.tokens)) >= limits.vocab_size:
                raise bad_request(f"tokens: got {highest}, allowed are 0 to {limits.vocab_size - 1}", "tokens")
            answer = msgspec.json.encode(Detokenized(await self._prompts.decode(request.tokens)))
            await respond_leased(scope, send, answer, lease)

    async def _tokens(self, request: TokenizeRequest, body: bytes, limits: Limits) -> list[int]:
        if isinstance(request.messages, list) == isinstance(request.prompt, str):
            raise bad_request("got both or neither of `prompt` and `messages`, allowed is exactly one", "prompt")
        if isinstance(request.messages, list):
            request.messages.clear()  # their texts are in the body
            with_opening = request.add_generation_prompt is not False
            return await self._prompts.chat(messages_of(body), limits, with_opening, bool(request.add_special_tokens))
        text = request.prompt
        assert isinstance(text, str)
        return await self._prompts.encode(text, request.add_special_tokens is not False, len(text), "prompt")


class About:
    """What the server says of itself."""

    def __init__(
        self,
        config: ServerConfig,
        limits: ModelLimits,
        engine_client: EngineClient,
        counters: InFlight,
        identity: Identity,
        prompts: PromptReader,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._limits = limits
        self._engine_client = engine_client
        self._counters = counters
        self._identity = identity
        self._prompts = prompts
        self._metrics = metrics

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_alive(self._engine_client)
        if not self._engine_client.ready:
            raise unavailable("the engine cores are still starting", "not_ready")
        await respond(send, 200, b"")

    async def version(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = self._identity
        chosen = own.engine_cores_started_by
        method = StartMethod(chosen.method, "spawn", chosen.asked, chosen.asked_by, list(chosen.reasons))
        answer = Version(
            own.version,
            own.run_id,
            own.api_server_index,
            own.pids,
            self._config.accept,
            method,
            SamplingFrom(self._config.generation_config, self._limits().sampling.given),
        )
        await respond(send, 200, msgspec.json.encode(answer))

    async def load(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, msgspec.json.encode(ServerLoad(self._counters.total())))

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, self._metrics.render(), CONTENT_TYPE)

    async def openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits, with_key = self._limits(), bool(self._config.api_key)
        shortest = await self._prompts.shortest_chat(limits)
        document = openapi.document(limits, self._identity.version, with_key, shortest)
        await respond(send, 200, msgspec.json.encode(document))

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(
            send, 200, msgspec.json.encode(ModelList("list", [self._card(name) for name in self._limits().names]))
        )

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["model_id"]
        self._limits().check_model(name)
        await respond(send, 200, msgspec.json.encode(self._card(name)))

    def _card(self, name: str) -> ModelCard:
        limits = self._limits()
        return ModelCard(name, "model", self._identity.started_at, "lab", limits.model_name, limits.max_model_len)


# ---- plumbing -------------------------------------------------------------------------------------------------------

AsgiFunction = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An ASGI app of a function: Starlette would take a bare one for `func(request) -> response`."""

    function: AsgiFunction

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.function(scope, receive, send)
        except ClientGone:
            return


def _route(path: str, function: AsgiFunction, *methods: str) -> Route:
    return Route(path, _Endpoint(function), methods=methods, name=path)
