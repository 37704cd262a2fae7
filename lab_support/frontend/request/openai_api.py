"""OpenAI's API as msgspec structs: the requests that clients may send, and the answers. Only shapes, no code.

The structs validate requests, and `request/openapi.py` makes the server's document from the same structs, so that the
two can't differ. `None` in a request means "not given". Names are OpenAI's, or vLLM's if OpenAI has none.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

MOST_CHOICES = 16
MOST_PROMPTS = 64
MOST_LOGPROBS = 20
MOST_STOPS = 16
REQUEST_ID = r"^[A-Za-z0-9._:-]{1,128}$(?!\n)"  # Python's $ alone would let a line feed follow, and so into a header
MOST_TEXT = 262_144  # characters of a text to tokenize

Text = Annotated[str, Meta(min_length=1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]


Prompt = str | list[str | int | list[int]]
"""A text, several texts, token ids, or several lists of token ids; `request/openapi.py` describes it more exactly."""


# ---- requests -------------------------------------------------------------------------------------------------------


class StreamOptions(Struct, kw_only=True):
    """`include_usage`: one more event before the end of a stream, with the counts of tokens.

    `continuous_usage_stats`, with `include_usage` only: each event of a choice also has that choice's counts so far.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Sampling(Struct, kw_only=True):
    """The fields that completions and chats have in common; most of them say how tokens are chosen."""

    model: Annotated[str | None, Meta(description="The served model's name; may be left out.")] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES, description="Choices for each prompt.")] | None = None
    max_tokens: Annotated[int, Meta(ge=1, description="Most tokens of one choice.")] | None = None
    min_tokens: (
        Annotated[int, Meta(ge=0, description="No end token or stop string ends it earlier; max_tokens still does.")]
        | None
    ) = None
    temperature: (
        Annotated[float, Meta(ge=0, le=2, description="0 is greedy; between 0 and 0.01 counts as 0.01.")] | None
    ) = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1, description="0 and -1 switch it off.")] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=MOST_STOPS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MOST_STOPS)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    add_special_tokens: bool | None = None
    prompt_logprobs: (
        Annotated[int, Meta(ge=0, le=MOST_LOGPROBS, description="For each prompt token; not with `stream`.")] | None
    ) = None
    cache_salt: (
        Annotated[
            str, Meta(min_length=1, description="Cached blocks of prompts are shared only with requests of this salt.")
        ]
        | None
    ) = None
    request_id: (
        Annotated[str, Meta(pattern=REQUEST_ID, description="The answer's id, unless x-request-id gives one.")] | None
    ) = None


class CompletionRequest(Sampling, kw_only=True):
    """POST /v1/completions. `max_tokens` is 16 by default, or the rest of the context if that is less.

    With `echo` it may be 0: then the answer is the prompt, with its log-probabilities if `logprobs` is given.
    """

    prompt: Prompt
    echo: bool | None = None
    max_tokens: Annotated[int, Meta(ge=0, description="Most tokens of one choice; 0 with `echo` only.")] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None


class TextPart(Struct, kw_only=True):
    """A part of a message. Only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, kw_only=True):
    """One message of a conversation. `developer` counts as `system`. An assistant's missing content counts as "".

    The chat template also sees all other fields.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Meta(min_length=1)] | None = None
    tool_calls: Annotated[Any, Meta(extra_json_schema={"enum": [None, []]})] = None

    def __post_init__(self) -> None:
        if self.content is None and self.role != "assistant":
            raise ValueError("Object missing required field `content`")  # in the words of msgspec, which we translate


class ChatCompletionRequest(Sampling, kw_only=True):
    """POST /v1/chat/completions. Without a limit the answer may take the rest of the context.

    `top_logprobs` above 0 needs `logprobs`.
    """

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None


class TokenizeRequest(Struct, kw_only=True):
    """POST /tokenize: a text (`prompt`), or a conversation (`messages`) as the model would see it."""

    model: str | None = None
    prompt: Annotated[str, Meta(max_length=MOST_TEXT)] | UnsetType = UNSET
    messages: Annotated[list[ChatMessage], Meta(min_length=1)] | UnsetType = UNSET
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Struct, kw_only=True):
    """POST /detokenize."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=MOST_TEXT)]


Request = CompletionRequest | ChatCompletionRequest | TokenizeRequest | DetokenizeRequest


# ---- answers --------------------------------------------------------------------------------------------------------

Finish = Literal["stop", "length"]


class PromptTokensDetails(Struct):
    """`cached_tokens`: of the prompts' tokens, those that were in the prefix cache and not computed again."""

    cached_tokens: int


class Usage(Struct):
    """Counts of tokens: prompts once each, all choices' outputs, and their sum.

    `prompt_tokens_details` is there under `--enable-prompt-tokens-details`, in a stream in the event before its end.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET


class CompletionLogprobs(Struct):
    """One entry for each token. `text_offset` counts characters from the beginning of the choice's text.

    Entries of an echoed prompt come first. Its first token has null, because nothing precedes it.
    """

    text_offset: list[int]
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]


class PromptLogprob(Struct):
    """The log-probability of a token at one place of the prompt. `rank` 1 is the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""For each token of a prompt, by token id: itself and the likeliest ones; null for the first token. vLLM's shape."""


class CompletionChoice(Struct):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish | None
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class Completion(Struct):
    """The answer of /v1/completions. In a stream each event is one, with one choice or, for usage, none."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    content: list[ChatTokenLogprob]


class AssistantMessage(Struct):
    role: Literal["assistant"]
    content: str


class ChatChoice(Struct):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(Struct):
    """The answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class ModelCard(Struct):
    """A served model. `max_model_len` is the longest prompt plus output, in tokens."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    max_model_len: int


class ModelList(Struct):
    object: Literal["list"]
    data: list[ModelCard]


class Tokenized(Struct):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Struct):
    prompt: str


class ServerLoad(Struct):
    """Requests that are being answered, summed over all API servers."""

    server_load: int


class StartMethod(Struct):
    """The start methods in use; for engine cores also the one asked for, the asker, and the reasons for the choice."""

    engine_cores: str
    api_servers: str
    asked: str
    asked_by: str
    reasons: list[str]


class SamplingFrom(Struct):
    """Defaults for fields that a request omits: `--generation-config`, and the values that come from it, by name."""

    generation_config: str
    defaults: dict[str, float]


class Version(Struct):
    """The answering process: its version, the server's run, the API server's index and pid, and its `--accept`.

    device: where engine cores compute. stand_in: in words, if they compute nothing and only take a GPU's time.
    """

    version: str
    run_id: str
    api_server: int
    pids: dict[str, int]
    accept: str
    start_method: StartMethod
    sampling: SamplingFrom
    device: str
    stand_in: str | None
    batching: str
