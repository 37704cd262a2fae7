"""The bytes of vLLM's engine-core protocol: what a front end sends, and what it is sent.

The layouts are vLLM 0.33.0's (vllm/v1/engine/__init__.py, serial_utils.py, v1/metrics/stats.py); 0.32.0 differs only in
fields at the end of an array, which neither side needs. vLLM's own decoder can also read pickles
(`MsgpackDecoder.ext_hook`, if VLLM_ALLOW_INSECURE_SERIALIZATION is set): here is no such way, and an extension type is
refused. Runs in an engine core, and `loads_message` in the coordinator.
"""

import array
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lab_support import __version__
from lab_support.boundary.messages import EngineReady, EngineStats, Loads
from lab_support.generation import TokenLogprobs

SPOKEN = "0.33.0"
"""The version of vLLM whose layouts these are."""

ADD, ABORT, START_DP_WAVE, UTILITY = b"\x00", b"\x01", b"\x02", b"\x03"
ERROR = 3
"""vLLM's finish reason for a request that failed; 0 to 2 are ours, too."""
RAW_VIEW = 3
"""The msgpack extension type of an array's bytes."""

pack = msgspec.msgpack.Encoder().encode

# ---- what a front end sends ------------------------------------------------------------------------------------------


class Unreadable(ValueError):
    """A message outside of the protocol. request_id: of the request that it seems to be; "" if it has none."""

    def __init__(self, why: str, request_id: str = "") -> None:
        super().__init__(why)
        self.request_id = request_id


class AddRequest(msgspec.Struct, array_like=True, gc=False):
    """The fields of `EngineCoreRequest`. Further ones, of a later version, are not read."""

    request_id: str
    prompt_token_ids: list[Annotated[int, Meta(ge=0)]] | None
    mm_features: Any
    sampling_params: dict[str, Any] | None
    pooling_params: Any
    arrival_time: float
    lora_request: Any
    cache_salt: str | None
    data_parallel_rank: int | None
    prompt_embeds: Any = None
    prompt_is_token_ids: Any = None
    client_index: int = 0
    current_wave: int = 0
    priority: int = 0
    trace_headers: Any = None
    resumable: bool = False


class UtilityCall(msgspec.Struct, array_like=True, gc=False):
    """A call of a method of vLLM's engine core. Its result is awaited."""

    client_index: int
    call_id: int
    method: str
    arguments: Any = None


_READERS = {
    kind: msgspec.msgpack.Decoder(layout)
    for kind, layout in ((ADD, AddRequest), (ABORT, list[str]), (UTILITY, UtilityCall), (START_DP_WAVE, Any))
}


def body_of(frames: Sequence[bytes]) -> Any:
    """An `AddRequest`, a `UtilityCall`, the ids to abort, or what a wave of data parallelism is told, which is nothing
    to one engine core. Raises `Unreadable`."""
    if len(frames) < 2 or frames[0] not in _READERS:
        raise Unreadable(f"got {len(frames)} frames, the first {frames[0][:8]!r}, expected a kind and its body")
    try:
        return _READERS[frames[0]].decode(frames[1])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"got a message that vLLM {SPOKEN} doesn't send: {error}", _id_in(frames)) from error


def _id_in(frames: Sequence[bytes]) -> str:
    """The id of a request whose other fields can't be read, so that its front end need not wait; otherwise ""."""
    try:
        found = msgspec.msgpack.decode(frames[1]) if frames[0] == ADD else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return found[0] if isinstance(found, list) and found and isinstance(found[0], str) else ""


# ---- what it is sent -------------------------------------------------------------------------------------------------


def ready_message(ready: EngineReady, settings: dict[str, Any]) -> bytes:
    """`EngineCoreReadyResponse`: an engine core's first message. settings: block_size, max_num_seqs and the like."""
    return pack(
        {
            "max_model_len": ready.max_model_len,
            "num_gpu_blocks": ready.total_blocks,
            "dp_stats_address": None,
            "vllm_version": f"{SPOKEN}+lab.{__version__}",
            "world_size": 1,
            "tensor_parallel_size": 1,
            "pipeline_parallel_size": 1,
            "decode_context_parallel_size": 1,
            "data_parallel_rank": ready.engine_index,
            "instance_id": f"engine-{ready.engine_index}",
            "supports_lora": False,
            "max_loras": 0,
            **settings,
        }
    )


def loads_message(loads: Loads) -> bytes:
    """What vLLM's coordinator publishes: the loads, and the wave of engine cores in lockstep, which these are not."""
    return pack([[[each.waiting, each.running, each.kv_cache_usage] for each in loads.engines], 0, False])


def output(
    name: str,
    token_ids: list[int],
    *,
    logprobs: Any = None,
    prompt: Any = None,
    finish: int | None = None,
    stop_reason: int | None = None,
    prefill: dict[str, int] | None = None,
    error: dict[str, Any] | None = None,
) -> list[Any]:
    """`EngineCoreOutput`; fields at the end that say nothing are left out."""
    fields = [name, token_ids, logprobs, prompt, None, finish, stop_reason, None, None, None, None, prefill]
    if error:
        fields += [None, 0, None, None, None, None, error]
    while len(fields) > 2 and fields[-1] is None:
        fields.pop()
    return fields


def prefill_stats(prompt: int, cached: int) -> dict[str, int]:
    """`PrefillStats`: tokens of a prompt, of which `cached` were in the prefix cache."""
    return {
        "num_prompt_tokens": prompt,
        "num_computed_tokens": prompt - cached,
        "num_cached_tokens": cached,
        "num_local_cached_tokens": cached,
        "num_external_cached_tokens": 0,
        "num_cache_creation_tokens": 0,
    }


def logprobs_arrays(
    token_ids: Sequence[int], found: Sequence[TokenLogprobs], count: int, *, np: bool = True
) -> list[Any]:
    """LogprobsLists (numpy arrays), or LogprobsTensors: ids and log-probabilities [tokens, 1 + count], ranks [tokens].

    A token stands first in its row, then the likeliest ones.
    """
    count = min(count, *(len(one.top) for one in found))
    ids, values = array.array("i"), array.array("f")
    for token, one in zip(token_ids, found, strict=True):
        top = list(one.top[:count])
        ids.extend([token, *(other for other, _ in top)])
        values.extend([one.logprob, *(value for _, value in top)])
    ranks = array.array("i", (one.rank for one in found))
    kinds = ("<i4", "<f4") if np else ("int32", "float32")
    shape = [len(found), 1 + count]
    return [_array(kinds[0], shape, ids), _array(kinds[1], shape, values), _array(kinds[0], [len(found)], ranks), None]


def _array(kind: str, shape: list[int], values: array.array) -> list[Any]:
    return [kind, shape, msgspec.msgpack.Ext(RAW_VIEW, values.tobytes())]


def scheduler_stats(stats: EngineStats, queries: int, hits: int) -> dict[str, Any]:
    """`SchedulerStats`. queries, hits: tokens that were looked up and found in the prefix cache since the last ones."""
    used = stats.total_blocks - stats.free_blocks
    return _SCHEDULER_STATS | {
        "num_running_reqs": stats.running,
        "num_waiting_reqs": stats.waiting,
        "kv_cache_usage": used / stats.total_blocks if stats.total_blocks else 0.0,
        "prefix_cache_stats": _CACHE_STATS | {"queries": queries, "hits": hits},
    }


# vllm-rs wants every field of these two, and every field but the defaults of an array's end.
_SCHEDULER_STATS = {
    "num_skipped_waiting_reqs": 0,
    "num_kv_fetch_reqs_by_stage": {},
    "step_counter": 0,
    "current_wave": 0,
    "kv_cache_eviction_events": [],
    "waiting_lora_adapters": {},
    "running_lora_adapters": {},
}
_CACHE_STATS = {"reset": False, "requests": 0, "queries": 0, "hits": 0} | dict.fromkeys(
    ("preempted_requests", "preempted_queries", "preempted_hits"), 0
)


def utility_answer(call: UtilityCall) -> list[Any]:
    """`UtilityOutput`: the result of a call that has one here, or in words that there is none."""
    if call.method in _RESULTS:
        return [call.call_id, None, [None, _RESULTS[call.method]]]
    return [call.call_id, f"got a call of {call.method}, which this engine core does not have", None]


_RESULTS: dict[str, Any] = {
    "get_supported_tasks": ["generate"],
    "is_sleeping": False,
    "is_scheduler_paused": False,
    "list_loras": [],
    "reset_mm_cache": None,
    "reset_encoder_cache": None,
}
