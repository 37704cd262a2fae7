"""Every message that crosses from one process into another, listed by its receiver.

msgspec structs, packed as msgpack arrays. None holds a tensor or a pickle, so a process that reads them needs no torch
and need not trust the sender. Times are `time.monotonic()` seconds, which all processes of one machine share.
"""

from typing import Any

import msgspec

from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs
from lab_support.pace.pace import PaceCounts


class EngineCoreGone(Exception):
    """A message could not be sent: the engine core that it is for has ended, or never existed."""


class Message(msgspec.Struct, array_like=True, tag=True, frozen=True, gc=False):
    """Base of all messages: packed as `[tag, field, field, …]`."""


# ---- received by an engine core, from API servers -------------------------------------------------------------------


class Generate(Message):
    """Generate one sequence. `request_id` is unique within the API server `client_index`.

    parent_id: the same for all sequences of one client's request, and for no others of this API server.
    cache_salt: a digest of the request's, by which the engine core tells prefixes apart; b"" if it has none.
    """

    client_index: int
    request_id: int
    prompt_token_ids: list[int]
    sampling: SamplingParams
    parent_id: int
    cache_salt: bytes = b""


class Abort(Message):
    """Forget these requests and free their blocks. Unknown ids are fine: they may have just ended."""

    client_index: int
    request_ids: list[int]


# ---- received by an API server, from engine cores -------------------------------------------------------------------


class SequenceTokens(msgspec.Struct, array_like=True, frozen=True, gc=False, omit_defaults=True):
    """One sequence's tokens from one step: usually one; none if it was aborted."""

    # Not the scheduler's Output, because a request's id in its API server is not its id in the engine core.

    request_id: int
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprobs] | None = None


class PromptScores(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Log-probabilities of the next tokens of one sequence's prompt. All come before the first generated token.

    The prompt's first token has none, because nothing comes before it.
    """

    request_id: int
    logprobs: list[TokenLogprobs]


class CachedTokens(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How many tokens of one sequence's prompt were in the prefix cache, if any. Comes with its first tokens."""

    request_id: int
    count: int


class Tokens(Message):
    """All tokens that one step generated for one API server: one message per step, not one per token."""

    engine_index: int
    sequences: list[SequenceTokens]
    prompts: list[PromptScores] = []
    cached: list[CachedTokens] = []


class Failed(Message):
    """This sequence failed in its engine core, and no other did. Only vLLM's own engine core ends one so.

    No process sends it: an API server makes it of what vLLM tells (boundary/vllm/front_end.py).
    """

    engine_index: int
    request_id: int
    cause: str


class EngineStats(Message):
    """An engine core's state after a step: gauges, and totals since it started.

    Goes to one API server, which publishes it for all, and to the coordinator if there is one. vLLM's front ends share
    no metrics, so each of them gets it.
    `free_blocks` counts cached blocks, too, if no sequence uses them. `prefix_cache_queries` and `prefix_cache_hits`
    count tokens. `abort_steps` counts the steps that ended between an abort's arrival and its blocks being free, over
    all aborts, and `abort_steps_max` is the most for one; `stage_seconds` sums the time per stage (engine_core.py names
    them). `pace`: of a stand-in for a GPU only.
    """

    engine_index: int
    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    steps: int
    prompt_tokens: int
    generation_tokens: int
    preemptions: int
    aborts: int
    abort_steps: int
    abort_steps_max: int
    prefix_cache_queries: int
    prefix_cache_hits: int
    stage_seconds: dict[str, float]
    pace: PaceCounts | None = None


class EngineReady(Message):
    """An engine core's first message to each API server: it accepts requests now.

    device: where it computes, such as "cpu". stand_in: in words, if it only stands in for a device; otherwise "".
    """

    engine_index: int
    max_model_len: int
    total_blocks: int
    device: str = ""
    stand_in: str = ""


# ---- received by an API server, from the coordinator ----------------------------------------------------------------


class EngineLoad(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The load of one engine core: requests by state, and the share of its KV cache that is in use (0 to 1)."""

    waiting: int = 0
    running: int = 0
    kv_cache_usage: float = 0.0


class Loads(Message):
    """The load of every engine core, by index."""

    engines: list[EngineLoad]


# ---- between the launcher and each of its children ------------------------------------------------------------------


class Hello(Message):
    """A child's first message to the launcher: it runs, and asks where to connect."""


class Addresses(Message):
    """The launcher's answer to Hello: the endpoints that the child connects to.

    inputs, outputs: one of each for every API server, by index. stats, loads: the coordinator's two.
    """

    inputs: list[str]
    outputs: list[str]
    stats: str | None = None
    loads: str | None = None


class ApiServerJoined(Message):
    """To every engine core: a further API server, `client_index`, waits at these endpoints."""

    client_index: int
    input: str
    output: str


class ApiServerLeft(Message):
    """To every engine core: the API server `client_index` has ended. Nobody waits for its tokens."""

    client_index: int


class Retire(Message):
    """To an API server: another has taken its place. It takes no more connections, finishes those it has, and ends."""


class Ready(Message):
    """A child can do its work. `details` is for the log and for the line that says that the server is ready."""

    details: dict[str, str | int | float]


class Ping(Message):
    """To a child that has said nothing for a while, under --liveness-timeout: answer with Alive."""


class Alive(Message):
    """A sign of life: the answer to Ping, or sent unasked by an engine core that takes long to load."""


class Fatal(Message):
    """The process `name` can't go on, and so the server ends.

    From a child to the launcher, and from the launcher to every API server, which tells its open streams. (In vLLM an
    engine core that fails tells the API servers itself. Here the launcher does, because a killed one can't.)
    """

    name: str
    cause: str
    code: int = 1  # the server's exit code: an `ExitCode` of boundary/lifeline.py


ToEngineCore = Generate | Abort
ToApiServer = Tokens | EngineStats | EngineReady
ToLauncher = Hello | Ready | Alive | Fatal
FromLauncher = Addresses | Fatal | Retire | Ping | ApiServerJoined | ApiServerLeft


def encode(message: Message) -> bytes:
    """The message as bytes, which a decoder of its class, or of a union with it, reads."""
    return _encoder.encode(message)


def decoder(kind: Any) -> msgspec.msgpack.Decoder:
    """A decoder for a union such as `ToEngineCore`, or for one class. It raises `msgspec.ValidationError` otherwise."""
    return msgspec.msgpack.Decoder(kind)


_encoder = msgspec.msgpack.Encoder()
