"""What vLLM's own engine core sends to a front end: its ready response, and the outputs of each step. Bytes only.

The layouts are those of `EngineCoreReadyResponse` and `EngineCoreOutputs` in vLLM 0.32.0 and 0.33.0
(vllm/v1/engine/__init__.py). A field that no request of ours asks for (a pooled tensor, the result of a utility call)
is not looked at. vLLM packs some objects as pickles, if VLLM_ALLOW_INSECURE_SERIALIZATION is set: msgpack's extension
types 1 and 2. Here is no way to read one, and where an array should be it is refused.

Runs in an API server.
"""

import array
import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lab_support.boundary.vllm.layouts import RAW_VIEW, SPOKEN
from lab_support.generation import TokenLogprobs

ENGINE_CORE_DEAD = b"ENGINE_CORE_DEAD"
"""In place of outputs: an error has ended the engine core."""


class Illegible(ValueError):
    """A message that vLLM's engine core doesn't send."""


class ReadyResponse(msgspec.Struct):
    """The fields of `EngineCoreReadyResponse` that matter here."""

    max_model_len: int
    num_gpu_blocks: int
    vllm_version: str
    data_parallel_rank: int = 0


class CacheStats(msgspec.Struct):
    """Tokens looked up, and found, in the prefix cache since the last ones."""

    queries: int = 0
    hits: int = 0


class Stats(msgspec.Struct):
    """`SchedulerStats`, after one step; goes to one of the front ends that the step has outputs for."""

    num_running_reqs: int = 0
    num_waiting_reqs: int = 0
    num_skipped_waiting_reqs: int = 0
    kv_cache_usage: float = 0.0
    prefix_cache_stats: CacheStats | None = None


class PrefillStats(msgspec.Struct):
    """Tokens of a prompt, and those of them that were in the prefix cache."""

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0


class CoreOutput(msgspec.Struct, array_like=True, gc=False):
    """`EngineCoreOutput`: one sequence's tokens of one step."""

    request_id: str
    new_token_ids: list[int]
    logprobs: Any = None
    prompt_logprobs: Any = None
    pooling_output: Any = None
    finish_reason: int | None = None
    stop_reason: Any = None
    events: Any = None
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None
    trace_headers: Any = None
    prefill_stats: PrefillStats | None = None


class CoreOutputs(msgspec.Struct, array_like=True, gc=False):
    """`EngineCoreOutputs`, as far as anything here reads it."""

    engine_index: int = 0
    outputs: list[CoreOutput] = []
    scheduler_stats: Stats | None = None


_read_ready = msgspec.msgpack.Decoder(ReadyResponse).decode
_read_outputs = msgspec.msgpack.Decoder(CoreOutputs).decode


def ready_response(frame: bytes) -> ReadyResponse:
    """Raises `Illegible`."""
    return _read(_read_ready, frame)


def core_outputs(frames: Sequence[bytes]) -> CoreOutputs:
    """The first frame is msgpack; the others are the bytes of big arrays in it. Raises `Illegible`."""
    return _read(_read_outputs, frames[0])


def _read(read: Any, frame: bytes) -> Any:
    try:
        return read(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Illegible(f"got a message that vLLM {SPOKEN}'s engine core doesn't send: {error}") from error


def token_logprobs(arrays: Any, frames: Sequence[bytes]) -> list[TokenLogprobs]:
    """Of `LogprobsLists` or `LogprobsTensors`: ids and log-probabilities [tokens, 1 + count], and ranks [tokens].

    A token stands first in its row, then the likeliest ones. Raises `Illegible`.
    """
    try:
        ids, values, ranks = (_numbers(each, frames) for each in arrays[:3])
        width = arrays[0][1][1]
        rows = range(len(ranks))
        if not len(ids) == len(values) == len(ranks) * width:
            raise Illegible(f"got {len(ids)} ids and {len(values)} values for {len(ranks)} rows of {width}")
        return [TokenLogprobs(values[at], ranks[row], _top(ids, values, at, width)) for row, at in _starts(rows, width)]
    except (TypeError, IndexError, ValueError, KeyError) as error:
        raise Illegible(f"got log-probabilities that are no arrays: {error}") from error


def _starts(rows: range, width: int) -> Iterator[tuple[int, int]]:
    return ((row, row * width) for row in rows)


def _top(ids: Sequence[int], values: Sequence[float], at: int, width: int) -> list[tuple[int, float]]:
    return [(ids[each], values[each]) for each in range(at + 1, at + width)]


_CODES = {
    **{"<i4": "i", "<i8": "q", "<f4": "f", "<f8": "d"},  # numpy's names
    **{"int32": "i", "int64": "q", "float32": "f", "float64": "d"},  # torch's
}


def _numbers(packed: Any, frames: Sequence[bytes]) -> Sequence[Any]:
    """An array's numbers, row by row: [type, shape, its bytes or the index of the frame with them]."""
    kind, shape, data = packed
    if isinstance(data, msgspec.msgpack.Ext):
        if data.code != RAW_VIEW:
            raise Illegible(f"got the extension type {data.code}, which could be a pickle")
        data = data.data
    elif isinstance(data, int):
        data = frames[data]
    found = array.array(_CODES[kind], bytes(data))
    if len(found) != math.prod(shape):
        raise Illegible(f"got {len(found)} numbers for an array of {shape}")
    return found
