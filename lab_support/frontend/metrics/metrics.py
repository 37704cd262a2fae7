"""Prometheus metrics, correct whichever API server is asked, because all share the same files, one set for each slot.

Tokens and requests are counted in plain numbers, which are published at most every `PUBLISH_EVERY` seconds, and only if
something has changed. Before a `Metrics` is made, the process's main sets PROMETHEUS_MULTIPROC_DIR to the folder in
which the launcher has made the files (supervision/metric_files.py). Without it, the metrics are this process's own.

An engine core sends its totals in `EngineStats`, to one API server for as long as that one lives. The next one
continues from the totals in the shared files, so that nothing is counted twice or lost.
"""

import asyncio
import os
from functools import partial
from time import process_time

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from lab_support.boundary.messages import EngineStats
from lab_support.frontend.metrics.metric_families import (
    FIRST_TOKEN_SECONDS,
    GAP_SECONDS,
    REQUEST_SECONDS,
    TOKENS,
    Families,
)
from lab_support.frontend.metrics.tally import CounterTally, HistogramTally
from lab_support.frontend.request.openai_api import Finish
from lab_support.pace.pace import LONGER, SHORTER, PaceCounts

PUBLISH_EVERY = 0.1  # seconds
CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Metrics:
    """All metrics of this process; `build_app` makes one. `engines[i]` counts what comes from engine core i.

    slot: selects the files. Their counters continue from the values of a predecessor in the slot.
    """

    def __init__(self, model_name: str, engine_count: int, api_server_index: int, slot: int = 0) -> None:
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)
        self._registry = CollectorRegistry()
        families = Families(self._registry)
        self.engines = [EngineMeter(self, families, model_name, str(index)) for index in range(engine_count)]
        self.server = ServerMeter(self, families, model_name, str(api_server_index))
        self._timer: asyncio.TimerHandle | None = None

    def on_stats(self, stats: EngineStats) -> None:
        """Take an engine core's totals; serves as the engine client's `on_stats`."""
        self.engines[stats.engine_index].latest = stats
        self.changed()

    def changed(self) -> None:
        """Schedule `publish`, because something has changed. Runs in the event loop."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_EVERY, self.publish)

    def publish(self) -> None:
        """Make all counts since the last call visible to every API server."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for engine in self.engines:
            engine.publish()
        self.server.publish()

    def describe(self, device: str, stand_in: str, batching: str) -> None:
        """Say where engine cores compute and how they batch. The same values again change nothing."""
        for engine in self.engines:
            engine.describe(device=device, stand_in=stand_in, batching=batching)

    def render(self) -> bytes:
        """The text that Prometheus reads, summed over all API servers."""
        self.publish()
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)


class ServerMeter:
    """Counts this API server's work, for all engine cores together."""

    def __init__(self, metrics: Metrics, families: Families, model_name: str, index: str) -> None:
        own = {"model_name": model_name, "api_server": index}

        def stage(name: str) -> CounterTally:
            return CounterTally(families.api_stage.labels(stage=name, **own))

        self._metrics = metrics
        self._requests = partial(families.requests.labels, **own)
        self._by_status: dict[int, CounterTally] = {}
        self._rejections = CounterTally(families.rejections.labels(**own))
        self._cpu = families.cpu.labels(**own)
        self.tokenize_seconds = stage("tokenize")
        self.detokenize_seconds = stage("detokenize")
        self.send_seconds = stage("send")

    def tokenized(self, seconds: float) -> None:
        self.tokenize_seconds.count += seconds

    def rejected(self) -> None:
        self._rejections.count += 1

    def answered(self, status: int) -> None:
        if status not in self._by_status:
            self._by_status[status] = CounterTally(self._requests(status=str(status)))
        self._by_status[status].count += 1
        self._metrics.changed()

    def publish(self) -> None:
        for tally in self._by_status.values():
            tally.publish()
        self._rejections.publish()
        self.tokenize_seconds.publish()
        self.detokenize_seconds.publish()
        self.send_seconds.publish()
        self._cpu.set(process_time())


class EngineMeter:
    """Counts this API server's sequences on one engine core. Times are `time.monotonic()` seconds."""

    def __init__(self, metrics: Metrics, families: Families, model_name: str, index: str) -> None:
        own = {"model_name": model_name, "engine": index}

        def counter(family: Counter, **labels: str) -> CounterTally:
            return CounterTally(family.labels(**own, **labels))

        self._metrics = metrics
        self._stats = _StatsSeries(families, own)
        self._about = partial(families.about.labels, **own)
        self._tokens = counter(families.generation_tokens)
        self._prompt_tokens = counter(families.prompt_tokens)
        self._ended = {
            reason: counter(families.success, finished_reason=reason) for reason in ("stop", "length", "abort")
        }
        self._gaps = HistogramTally(families.gaps.labels(**own), GAP_SECONDS)
        self._first_token = HistogramTally(families.first_token.labels(**own), FIRST_TOKEN_SECONDS)
        self._request_seconds = HistogramTally(families.request_seconds.labels(**own), REQUEST_SECONDS)
        self._seconds_per_token = HistogramTally(families.seconds_per_token.labels(**own), GAP_SECONDS)
        self._prompt_lengths = HistogramTally(families.prompt_lengths.labels(**own), TOKENS)
        self._output_lengths = HistogramTally(families.output_lengths.labels(**own), TOKENS)
        self.latest: EngineStats | None = None

    def describe(self, **labels: str) -> None:
        self._about(**labels).set(1)

    def submitted(self, prompt_tokens: int) -> None:
        self._prompt_tokens.count += prompt_tokens
        self._prompt_lengths.add(prompt_tokens)

    def on_step(self, tokens: int, last_at: float, started: float, decoded: float, sent: float) -> None:
        """A step brought `tokens` tokens of one sequence; the step before came at `last_at` (0: this is the first)."""
        self._tokens.count += tokens
        server = self._metrics.server
        server.detokenize_seconds.count += decoded - started
        server.send_seconds.count += sent - decoded
        if last_at:
            self._gaps.add(started - last_at)
        self._metrics.changed()

    def first_token(self, seconds: float) -> None:
        self._first_token.add(seconds)

    def ended(self, reason: Finish, seconds: float, seconds_per_token: float, tokens: int) -> None:
        """A sequence ended by itself, `seconds` after its request."""
        self._ended[reason].count += 1
        self._request_seconds.add(seconds)
        self._output_lengths.add(tokens)
        if tokens > 1:
            self._seconds_per_token.add(seconds_per_token)

    def aborted(self) -> None:
        self._ended["abort"].count += 1
        self._metrics.changed()

    def publish(self) -> None:
        for tally in self._ended.values():
            tally.publish()
        self._tokens.publish()
        self._prompt_tokens.publish()
        self._gaps.publish()
        self._first_token.publish()
        self._request_seconds.publish()
        self._seconds_per_token.publish()
        self._prompt_lengths.publish()
        self._output_lengths.publish()
        if self.latest is not None:
            self._stats.publish(self.latest)
            self.latest = None


class _StatsSeries:
    """The metrics that an engine core's stats fill. For totals, only their growth is published."""

    def __init__(self, families: Families, own: dict[str, str]) -> None:
        self._running = families.running.labels(**own)
        self._waiting = families.waiting.labels(**own)
        self._cache_usage = families.cache_usage.labels(**own)
        self._free_blocks = families.free_blocks.labels(**own)
        self._total_blocks = families.total_blocks.labels(**own)
        self._abort_steps_max = families.abort_steps_max.labels(**own)
        self._stage = partial(families.engine_stage.labels, **own)
        self._pace = _PaceSeries(families, own)
        self._totals = {
            "preemptions": families.preemptions.labels(**own),
            "prefix_cache_queries": families.prefix_cache_queries.labels(**own),
            "prefix_cache_hits": families.prefix_cache_hits.labels(**own),
            "steps": families.steps.labels(**own),
            "aborts": families.aborts.labels(**own),
            "abort_steps": families.abort_steps.labels(**own),
            "prompt_tokens": families.engine_prompt_tokens.labels(**own),
            "generation_tokens": families.engine_tokens.labels(**own),
        }
        self._own = own
        self._published: dict[str, float] | None = None  # by the name of the series

    def publish(self, stats: EngineStats) -> None:
        self._running.set(stats.running)
        self._waiting.set(stats.waiting)
        self._cache_usage.set(1 - stats.free_blocks / stats.total_blocks if stats.total_blocks else 0)
        self._free_blocks.set(stats.free_blocks)
        self._total_blocks.set(stats.total_blocks)
        self._abort_steps_max.set(stats.abort_steps_max)
        if self._published is None:
            self._published = _published_before(self._own)
        for name, total in self._totals.items():
            self._grow(total, f"{total._name}_total", getattr(stats, name))
        for stage, seconds in stats.stage_seconds.items():
            counter = self._stage(stage=stage)
            self._grow(counter, f"{counter._name}_total {stage}", seconds)
        for grown, label, count in self._pace.totals(stats.pace) if stats.pace else ():
            self._grow(grown, f"{grown._name}_total {label}".strip(), count)

    def _grow(self, counter: Counter, series: str, total: float) -> None:
        assert self._published is not None
        counter.inc(max(0.0, total - self._published.get(series, 0)))
        self._published[series] = total


class _PaceSeries:
    """Those of a stand-in for a GPU; there are none until there is one."""

    def __init__(self, families: Families, own: dict[str, str]) -> None:
        self._late = partial(families.late_steps.labels, **own), partial(families.late_seconds.labels, **own)
        self._unmeasured = partial(families.unmeasured_steps.labels, **own)

    def totals(self, pace: PaceCounts) -> list[tuple[Counter, str, float]]:
        """Each counter, the value of its own label ("" without one), and its total."""
        steps, seconds = self._late
        return [
            (steps(), "", pace.late_steps),
            (seconds(), "", pace.late_seconds),
            (self._unmeasured(context=SHORTER), SHORTER, pace.shorter),
            (self._unmeasured(context=LONGER), LONGER, pace.longer),
        ]


def _published_before(own: dict[str, str]) -> dict[str, float]:
    """Values of the series with these labels that others have published, by name and, if there is one, own label."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return {}
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    found: dict[str, float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if own.items() <= sample.labels.items():
                label = sample.labels.get("stage") or sample.labels.get("context")
                found[" ".join(filter(None, (sample.name, label)))] = sample.value
    return found
