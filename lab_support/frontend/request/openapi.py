"""The server's OpenAPI 3.1 document, made from the structs that validate requests and encode answers.

This file adds the facts that structs can't know: the served model's name and sizes, the refused fields, and the errors
of each route. Limits that no schema can express (such as prompt plus max_tokens within the context) are in the
description.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from lab_support.frontend.http.errors import ErrorAnswer
from lab_support.frontend.request import openai_api as api
from lab_support.frontend.request.fields import REFUSED
from lab_support.frontend.request.served_model import ServedModel
from lab_support.frontend.request.stand_in import NEEDS_PROBABILITIES

Schema = dict[str, Any]

DESCRIPTION = """\
OpenAI's API for one model. Unknown fields are ignored; fields of other servers that would change the answer, but that
this server lacks, are refused. One limit is beyond a schema: if prompt tokens plus max_tokens exceed the model's
context, the answer is 400."""

ERRORS = {
    400: "The request is wrong; the message says what was got and what is allowed.",
    401: "The API key is missing or wrong.",
    403: "The request is from a web page of another origin, which is not allowed.",
    404: "There is no such model.",
    408: "The body did not arrive completely in time.",
    413: "The body is too large.",
    415: "The content type is not JSON, or the body is compressed.",
    503: "Too many requests, or an engine core is not available.",
}
_OF_BODY = (400, 404, 408, 413, 415)
_OF_GENERATE = (*_OF_BODY, 503)
_REQUESTS = (api.CompletionRequest, api.ChatCompletionRequest, api.TokenizeRequest, api.DetokenizeRequest)
_ANSWERS = (api.Completion, api.ChatCompletion, api.ModelList, api.Tokenized, api.Detokenized)
_OTHERS = (api.PromptLogprob, api.ModelCard, api.ServerLoad, api.Version, ErrorAnswer)
_ANY_TOKEN_ID = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_TOKEN_ID = {"$ref": "#/components/schemas/TokenId"}
_TEXT = {"type": "string", "minLength": 1}
_TOKEN_IDS = {"type": "array", "items": _TOKEN_ID, "minItems": 1}
_PROMPT = {
    "description": "A text, several texts, token ids, or several lists of token ids.",
    "anyOf": [
        _TEXT,
        {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": api.MOST_PROMPTS},
        _TOKEN_IDS,
        {"type": "array", "items": _TOKEN_IDS, "minItems": 1, "maxItems": api.MOST_PROMPTS},
    ],
}
_PROMPT_IN_STREAM = {
    "properties": {"stream": {"const": True}, "prompt_logprobs": {"type": "integer"}},
    "required": ["stream", "prompt_logprobs"],
}
_NOTHING_ASKED = {
    "properties": {"max_tokens": {"const": 0}, "echo": {"enum": [False, None]}},
    "required": ["max_tokens"],
}
_TOP_WITHOUT_LOGPROBS = {
    "properties": {"top_logprobs": {"type": "integer", "minimum": 1}, "logprobs": {"enum": [False, None]}},
    "required": ["top_logprobs"],
}
_CONTENT_OR_ASSISTANT = [
    {"properties": {"role": {"const": "assistant"}}},
    {"properties": {"content": {"not": {"type": "null"}}}, "required": ["content"]},
]
_EVENT = {
    "description": "One event: a piece of the answer as JSON, an error object, or at the end [DONE].",
    "type": "object",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}


DEFAULTS: dict[str, Any] = {
    "stream": False,
    "n": 1,
    "min_tokens": 0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "include_stop_str_in_output": False,
    "ignore_eos": False,
    "add_generation_prompt": True,
    "return_token_strs": False,
    "echo": False,
}
"""Field → its default, unless the model folder has another."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answer` is a struct, the media type of a text, or None for an empty body."""

    path: str
    method: str
    summary: str
    answer: type | str | None
    request: type | None = None
    errors: tuple[int, ...] = ()
    streams: bool = False
    open: bool = False


OPERATIONS = (
    Operation("/", "get", "A page for people: a story, and the processes that told it", "text/html", open=True),
    Operation("/docs", "get", "This document as a page for people", "text/html", open=True),
    Operation(
        "/v1/completions",
        "post",
        "Continue a text",
        api.Completion,
        api.CompletionRequest,
        _OF_GENERATE,
        streams=True,
    ),
    Operation(
        "/v1/chat/completions",
        "post",
        "Answer in a conversation",
        api.ChatCompletion,
        api.ChatCompletionRequest,
        _OF_GENERATE,
        streams=True,
    ),
    Operation("/v1/models", "get", "The served models", api.ModelList),
    Operation("/v1/models/{model_id}", "get", "One served model", api.ModelCard, errors=(404,)),
    Operation("/tokenize", "post", "Text to token ids", api.Tokenized, api.TokenizeRequest, _OF_BODY),
    Operation("/detokenize", "post", "Token ids to text", api.Detokenized, api.DetokenizeRequest, _OF_BODY),
    Operation("/health", "get", "Can it answer?", None, errors=(503,), open=True),
    Operation("/ping", "get", "Can it answer?", None, errors=(503,), open=True),
    Operation("/ping", "post", "Can it answer?", None, errors=(503,), open=True),
    Operation("/version", "get", "The version, and the process that answers", api.Version),
    Operation("/load", "get", "Requests in flight", api.ServerLoad),
    Operation("/metrics", "get", "Metrics for Prometheus", "text/plain"),
    Operation("/openapi.json", "get", "This document", "application/json"),
)


def document(model: ServedModel, version: str, with_key: bool, shortest_chat: int = 1, stand_in: str = "") -> Schema:
    """The whole document. with_key: the server requires an API key.

    shortest_chat: tokens of an empty conversation; an answer can never use these.
    """
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, model, with_key)
    components: Schema = {"schemas": _schemas(model, shortest_chat)}
    if stand_in:
        _refuse_probabilities(components["schemas"])
    if with_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    said = f"{DESCRIPTION} This server is a {stand_in}." if stand_in else DESCRIPTION
    info = {"title": "many processes, one port", "version": version, "description": said}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


# ---- schemas --------------------------------------------------------------------------------------------------------


def _schemas(model: ServedModel, shortest_chat: int) -> dict[str, Schema]:
    _, made = msgspec.json.schema_components(
        (*_REQUESTS, *_ANSWERS, *_OTHERS), ref_template="#/components/schemas/{name}"
    )
    schemas: dict[str, Schema] = _with_token_ids(made)
    schemas["TokenId"] = {"type": "integer", "minimum": 0, "maximum": model.vocab_size - 1}
    for request in _REQUESTS:
        shortest = shortest_chat if request is api.ChatCompletionRequest else 1
        _fill_in(schemas[request.__name__]["properties"], request, model, shortest)
    schemas["CompletionRequest"]["properties"]["prompt"] = _PROMPT
    schemas["CompletionRequest"]["not"] = {"anyOf": [_PROMPT_IN_STREAM, _NOTHING_ASKED]}
    schemas["ChatCompletionRequest"]["not"] = {"anyOf": [_PROMPT_IN_STREAM, _TOP_WITHOUT_LOGPROBS]}
    schemas["ChatMessage"]["anyOf"] = _CONTENT_OR_ASSISTANT
    schemas["TokenizeRequest"]["oneOf"] = [{"required": ["prompt"]}, {"required": ["messages"]}]
    return schemas


def _with_token_ids(schema: Any) -> Any:
    """The same schema with every token id limited to the vocabulary."""
    if schema == _ANY_TOKEN_ID:
        return dict(_TOKEN_ID)
    if isinstance(schema, dict):
        return {name: _with_token_ids(each) for name, each in schema.items()}
    return [_with_token_ids(each) for each in schema] if isinstance(schema, list | tuple) else schema


def _fill_in(properties: dict[str, Schema], request: type, model: ServedModel, shortest_prompt: int) -> None:
    properties["model"] = {"enum": [*model.names, None], "default": None, "description": "The served model."}
    for name in {"max_tokens", "max_completion_tokens"} & properties.keys():
        properties[name]["anyOf"][0]["maximum"] = model.max_model_len - shortest_prompt
    if "min_tokens" in properties:
        properties["min_tokens"]["anyOf"][0]["maximum"] = model.max_model_len - 1
    for name in DEFAULTS.keys() & properties.keys():
        properties[name]["default"] = model.sampling.given.get(name, DEFAULTS[name])
    for name, harmless in REFUSED.get(request, {}).items():
        properties[name] = {"enum": harmless, "description": "Not supported, except for values that change nothing."}


def _refuse_probabilities(schemas: dict[str, Schema]) -> None:
    for request, fields in NEEDS_PROBABILITIES.items():
        for name, harmless in fields.items():
            said = "Not with a stand-in for a device, except for values that ask for nothing."
            schemas[request.__name__]["properties"][name] = {"enum": harmless, "description": said}


# ---- operations -----------------------------------------------------------------------------------------------------


def _operation(operation: Operation, model: ServedModel, with_key: bool) -> Schema:
    guarded = with_key and not operation.open
    errors = sorted({*operation.errors, 403, *((401,) if guarded else ())})
    made: Schema = {
        "summary": operation.summary,
        "operationId": operation.method + operation.path.replace("/", "_").replace("{", "").replace("}", ""),
        "responses": {"200": _success(operation)} | {str(status): _error(status) for status in errors},
    }
    if operation.request is not None:
        made["requestBody"] = {"required": True, "content": _content("application/json", operation.request)}
    if "{model_id}" in operation.path:
        made["parameters"] = [_model_id(model)]
    if guarded:
        made["security"] = [{"key": []}]
    return made


def _success(operation: Operation) -> Schema:
    of_text = {"x-engine": False, "x-stand-in": False} if operation.streams else {}
    made: Schema = {"description": "Done.", "headers": _headers(of_text)}
    if isinstance(operation.answer, str):
        schema = {"type": "object"} if operation.answer == "application/json" else {"type": "string"}
        made["content"] = {operation.answer: {"schema": schema}}
    elif operation.answer is not None:
        made["content"] = _content("application/json", operation.answer)
    if operation.streams:
        made["content"]["text/event-stream"] = {"schema": _EVENT}
    return made


def _error(status: int) -> Schema:
    extra = {401: {"www-authenticate": True}, 503: {"retry-after": True}}.get(status, {})
    content = _content("application/json", ErrorAnswer)
    return {"description": ERRORS[status], "headers": _headers(extra), "content": content}


def _content(media_type: str, struct: type) -> Schema:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{struct.__name__}"}}}


def _headers(extra: dict[str, bool]) -> Schema:
    required = {"x-served-by": True, "x-request-id": True} | extra
    return {name: {"required": must, "schema": {"type": "string"}} for name, must in required.items()}


def _model_id(model: ServedModel) -> Schema:
    schema = {"type": "string", "minLength": 1}
    return {"name": "model_id", "in": "path", "required": True, "schema": schema, "example": model.name}
