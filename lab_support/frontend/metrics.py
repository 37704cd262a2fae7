"""Prometheus metrics of an API server, right from whichever API server is asked: they share files, one per process.

vLLM's names with its labels (`model_name`, `engine`), and our own `lab_…`. A token adds to plain numbers only; they
are published at most every `PUBLISH_EVERY` seconds, and only while something changed. The process's main sets
PROMETHEUS_MULTIPROC_DIR before this is imported: the library looks at it once. Without it the metrics are this
process's own.

An engine core's totals come with its `EngineStats`. Each engine core has to send them to one and the same API server
for as long as both live, or totals would be counted twice.
"""

import asyncio
import os
from bisect import bisect_left
from functools import partial
from time import process_time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from lab_support.boundary.messages import EngineStats
from lab_support.frontend.openai_api import Finish

PUBLISH_EVERY = 0.1  # seconds
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0)
FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0, 160.0)
REQUEST_SECONDS = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 480.0)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000)
CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Metrics:
    """All metrics of this process; `build_app` makes one. `engines[i]` counts what comes from engine core i."""

    def __init__(self, model_name: str, engine_count: int, api_server_index: int) -> None:
        self._registry = CollectorRegistry()
        families = _Families(self._registry)
        self.engines = [EngineMeter(self, families, model_name, str(index)) for index in range(engine_count)]
        self.server = ServerMeter(families, model_name, str(api_server_index))
        self._timer: asyncio.TimerHandle | None = None

    def on_stats(self, stats: EngineStats) -> None:
        """The engine client's `on_stats`."""
        self.engines[stats.engine_index].latest = stats
        self.changed()

    def changed(self) -> None:
        """Something is to be published soon. Runs in the event loop."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_EVERY, self.publish)

    def publish(self) -> None:
        """Bring what was counted since the last time to where every API server sees it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for engine in self.engines:
            engine.publish()
        self.server.publish()

    def render(self) -> bytes:
        """The text that Prometheus reads, summed over all API servers."""
        self.publish()
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)


class _Families:
    """Every metric by name, before its labels are filled in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        of_engine = ("model_name", "engine")
        gauge = partial(Gauge, registry=registry, multiprocess_mode="mostrecent")
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry, labelnames=of_engine)

        self.running = gauge("vllm:num_requests_running", "Sequences in the engine core's batch.", of_engine)
        self.waiting = gauge("vllm:num_requests_waiting", "Sequences that wait for a place.", of_engine)
        self.cache_usage = gauge("vllm:kv_cache_usage_perc", "Share of KV cache blocks in use; 1 is all.", of_engine)
        self.free_blocks = gauge("lab_engine_free_blocks", "KV cache blocks that are free.", of_engine)
        self.total_blocks = gauge("lab_engine_total_blocks", "KV cache blocks that there are.", of_engine)
        self.abort_steps_max = gauge(
            "lab_engine_abort_steps_max", "Most steps from an abort's arrival to its blocks being free.", of_engine
        )
        self.preemptions = counter("vllm:num_preemptions", "Sequences put back for lack of blocks.", of_engine)
        self.steps = counter("lab_engine_steps", "Steps of the engine core.", of_engine)
        self.aborts = counter("lab_engine_aborts", "Sequences aborted in the engine core.", of_engine)
        self.engine_prompt_tokens = counter("lab_engine_prompt_tokens", "Prompt tokens computed.", of_engine)
        self.engine_tokens = counter("lab_engine_generation_tokens", "Tokens generated in the engine core.", of_engine)
        self.engine_stage = counter(
            "lab_engine_stage_seconds", "Seconds the engine core spent, by stage of a step.", (*of_engine, "stage")
        )

        self.prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens of submitted sequences.", of_engine)
        self.generation_tokens = counter("vllm:generation_tokens", "Tokens brought to clients.", of_engine)
        self.success = counter("vllm:request_success", "Sequences that ended.", (*of_engine, "finished_reason"))
        self.first_token = histogram(
            "vllm:time_to_first_token_seconds", "From request to first token.", buckets=FIRST_TOKEN_SECONDS
        )
        self.gaps = histogram("vllm:inter_token_latency_seconds", "From token to token.", buckets=GAP_SECONDS)
        self.seconds_per_token = histogram(
            "vllm:request_time_per_output_token_seconds",
            "Mean gap of a sequence.",
            buckets=GAP_SECONDS,
        )
        self.request_seconds = histogram(
            "vllm:e2e_request_latency_seconds", "From request to last token.", buckets=REQUEST_SECONDS
        )
        self.prompt_lengths = histogram("vllm:request_prompt_tokens", "Prompt tokens of a sequence.", buckets=TOKENS)
        self.output_lengths = histogram("vllm:request_generation_tokens", "Output tokens.", buckets=TOKENS)

        of_server = ("model_name", "api_server")
        self.rejections = counter("vllm:admission_rejections", "Requests answered 503: too many.", of_server)
        self.requests = counter("lab_api_requests", "Requests answered.", (*of_server, "status"))
        self.api_stage = counter(
            "lab_api_stage_seconds", "Seconds an API server spent on tokens, by stage.", (*of_server, "stage")
        )
        self.cpu = gauge("lab_api_cpu_seconds", "CPU seconds of an API server since its start.", of_server)


class ServerMeter:
    """Counts what this API server does, whatever the engine core."""

    def __init__(self, families: _Families, model_name: str, index: str) -> None:
        own = {"model_name": model_name, "api_server": index}
        self._requests = partial(families.requests.labels, **own)
        self._rejections = families.rejections.labels(**own)
        self._cpu = families.cpu.labels(**own)
        self._stages = {
            stage: families.api_stage.labels(stage=stage, **own) for stage in ("tokenize", "detokenize", "send")
        }
        self.tokenize_seconds = self.detokenize_seconds = self.send_seconds = 0.0

    def tokenized(self, seconds: float) -> None:
        self.tokenize_seconds += seconds

    def rejected(self) -> None:
        self._rejections.inc()

    def answered(self, status: int) -> None:
        self._requests(status=str(status)).inc()

    def publish(self) -> None:
        self._stages["tokenize"].inc(self.tokenize_seconds)
        self._stages["detokenize"].inc(self.detokenize_seconds)
        self._stages["send"].inc(self.send_seconds)
        self.tokenize_seconds = self.detokenize_seconds = self.send_seconds = 0.0
        self._cpu.set(process_time())


class EngineMeter:
    """Counts what comes from one engine core to this API server. Times are `time.monotonic()` seconds."""

    def __init__(self, metrics: Metrics, families: _Families, model_name: str, index: str) -> None:
        own = {"model_name": model_name, "engine": index}
        self._metrics = metrics
        self._stats = _StatsSeries(families, own)
        self._tokens = families.generation_tokens.labels(**own)
        self._prompt_tokens = families.prompt_tokens.labels(**own)
        self._gaps = families.gaps.labels(**own)
        self._first_token = families.first_token.labels(**own)
        self._request_seconds = families.request_seconds.labels(**own)
        self._seconds_per_token = families.seconds_per_token.labels(**own)
        self._prompt_lengths = families.prompt_lengths.labels(**own)
        self._output_lengths = families.output_lengths.labels(**own)
        self._ended = {
            reason: families.success.labels(finished_reason=reason, **own) for reason in ("stop", "length", "abort")
        }
        self._gap_counts = [0] * (len(GAP_SECONDS) + 1)
        self._gap_sum = 0.0
        self._token_count = 0
        self.latest: EngineStats | None = None

    def submitted(self, prompt_tokens: int) -> None:
        self._prompt_tokens.inc(prompt_tokens)
        self._prompt_lengths.observe(prompt_tokens)

    def on_step(self, tokens: int, last_at: float, started: float, decoded: float, sent: float) -> None:
        """A step brought `tokens` of one sequence, the one before at `last_at` (0: this is the first)."""
        self._token_count += tokens
        server = self._metrics.server
        server.detokenize_seconds += decoded - started
        server.send_seconds += sent - decoded
        if last_at:
            gap = started - last_at
            self._gap_sum += gap
            self._gap_counts[bisect_left(GAP_SECONDS, gap)] += 1
        self._metrics.changed()

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def ended(self, reason: Finish, seconds: float, seconds_per_token: float, tokens: int) -> None:
        """A sequence ended by itself, `seconds` after its request."""
        self._ended[reason].inc()
        self._request_seconds.observe(seconds)
        self._output_lengths.observe(tokens)
        if tokens > 1:
            self._seconds_per_token.observe(seconds_per_token)

    def aborted(self) -> None:
        self._ended["abort"].inc()

    def publish(self) -> None:
        if self._token_count:
            self._tokens.inc(self._token_count)
            self._token_count = 0
            _observe_many(self._gaps, self._gap_counts, self._gap_sum)
            self._gap_counts = [0] * len(self._gap_counts)
            self._gap_sum = 0.0
        if self.latest is not None:
            self._stats.publish(self.latest)
            self.latest = None


class _StatsSeries:
    """The metrics that an engine core's stats fill. Totals are published as what they grew by."""

    def __init__(self, families: _Families, own: dict[str, str]) -> None:
        self._running = families.running.labels(**own)
        self._waiting = families.waiting.labels(**own)
        self._cache_usage = families.cache_usage.labels(**own)
        self._free_blocks = families.free_blocks.labels(**own)
        self._total_blocks = families.total_blocks.labels(**own)
        self._abort_steps_max = families.abort_steps_max.labels(**own)
        self._stage = partial(families.engine_stage.labels, **own)
        self._totals = {
            "preemptions": families.preemptions.labels(**own),
            "steps": families.steps.labels(**own),
            "aborts": families.aborts.labels(**own),
            "prompt_tokens": families.engine_prompt_tokens.labels(**own),
            "generation_tokens": families.engine_tokens.labels(**own),
        }
        self._published: dict[str, float] = {}

    def publish(self, stats: EngineStats) -> None:
        self._running.set(stats.running)
        self._waiting.set(stats.waiting)
        self._cache_usage.set(1 - stats.free_blocks / stats.total_blocks if stats.total_blocks else 0)
        self._free_blocks.set(stats.free_blocks)
        self._total_blocks.set(stats.total_blocks)
        self._abort_steps_max.set(stats.abort_steps_max)
        for name, counter in self._totals.items():
            self._grow(counter, name, getattr(stats, name))
        for stage, seconds in stats.stage_seconds.items():
            self._grow(self._stage(stage=stage), f"stage {stage}", seconds)

    def _grow(self, counter: Counter, name: str, total: float) -> None:
        counter.inc(max(0.0, total - self._published.get(name, 0)))
        self._published[name] = total


def _observe_many(histogram: Any, counts: list[int], total: float) -> None:
    """Add many observations at once, `counts` by bucket. The library has no call for it; `observe` costs 2 µs each."""
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(total)
