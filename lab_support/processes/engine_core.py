"""Engine core: owns one GPU (or the CPU, or a stand-in) and the KV cache; speaks no HTTP and sees no text.

Runs as:     lab:engine-0, lab:engine-1, …
Started by:  launcher, by --start-method
Receives:    Generate, Abort from every API server; Addresses, ApiServerJoined, ApiServerLeft, Ping from
             the launcher
Sends:       Tokens, EngineStats to the API servers; EngineStats to the coordinator; Hello, Ready, Alive, Fatal to the
             launcher
Holds:       the model, the KV cache, one ZeroMQ socket per direction and API server; under --trace-dir also a file
Dies when:   SIGTERM (sent once the API servers are gone), launcher gone, an error in a step

`busy_loop` is its main loop. Two other threads read and write the sockets (boundary/channels.py); under --trace-dir
a third one writes the trace (tracing/trace.py).
"""

import logging
import queue
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from lab_support.boundary.channels import COORDINATOR, Asked, EngineCoreChannels, Inbox
from lab_support.boundary.lifeline import ExitCode, vital
from lab_support.boundary.messages import (
    Abort,
    Addresses,
    Alive,
    ApiServerJoined,
    ApiServerLeft,
    CachedTokens,
    EngineReady,
    EngineStats,
    Fatal,
    FromLauncher,
    Generate,
    Hello,
    Message,
    Ping,
    PromptScores,
    Ready,
    SequenceTokens,
    ToEngineCore,
    Tokens,
    decoder,
    encode,
)
from lab_support.config import ConfigError, ServerConfig
from lab_support.engine.blocks.block_keys import BlockKeys
from lab_support.engine.paced.runner import PacedRunner
from lab_support.engine.request import Request
from lab_support.engine.scheduler import Output, Scheduler
from lab_support.engine.step import Step
from lab_support.log import set_up_log
from lab_support.pace.choice import pace_of
from lab_support.tracing import events
from lab_support.tracing.trace import Trace

if TYPE_CHECKING:
    from lab_support.engine.runner import Runner

log = logging.getLogger("lab.engine")

STATS_INTERVAL = 0.1  # seconds between two EngineStats to the API servers while there is work


def main(name: str, trace: Trace, control: Connection, config: ServerConfig, index: int) -> int:
    """Runs in the engine core."""
    set_up_log(config.log_level, name)
    trace.write_in_background()
    trace.milestone("HELLO")
    control.send_bytes(encode(Hello()))
    try:
        serve(trace, control, config, index)
    except ConfigError as error:
        control.send_bytes(encode(Fatal(name, str(error), ExitCode.REFUSED)))
        return ExitCode.REFUSED
    except Exception as error:
        log.exception("the engine core failed")
        control.send_bytes(encode(Fatal(name, f"{type(error).__name__}: {error}")))
        return ExitCode.FAILED
    return ExitCode.STOPPED


def serve(trace: Trace, control: Connection, config: ServerConfig, index: int) -> None:
    """Load the model, connect, report ready, and run the loop until SIGTERM."""
    clock = StageClock()
    signs = SignsOfLife(control, config.liveness_timeout)
    runner = open_runner(config, index, clock, signs.at_progress)
    trace.milestone("model loaded")
    core = EngineCore(index, runner, make_scheduler(config, runner), trace, clock, signs.send)
    addresses = decoder(FromLauncher).decode(control.recv_bytes())
    assert isinstance(addresses, Addresses), addresses
    trace.milestone("addresses")
    details = runner.details
    ready = EngineReady(
        index, runner.max_model_len, runner.num_blocks, str(details["device"]), str(details.get("stand_in", ""))
    )
    core.clients |= set(range(len(addresses.inputs)))
    core.tells_all = config.uses_vllm_rs
    on_arrival = core.traced.arrived if trace.on else None
    given = (addresses, ready, core.steps_ended, control, vital, on_arrival)
    with make_channels(config, runner, given) as channels:
        core.stop_at_sigterm(channels.inbox)
        trace.milestone("READY")
        control.send_bytes(encode(Ready(details)))
        core.busy_loop(channels)


def make_channels(config: ServerConfig, runner: "Runner | PacedRunner", given: tuple[Any, ...]) -> EngineCoreChannels:
    """To our own API servers, or to vLLM's front ends. given: the arguments of `EngineCoreChannels`."""
    if not config.uses_vllm_rs:
        return EngineCoreChannels(*given)
    from lab_support.boundary.vllm.wire import VllmChannels

    return VllmChannels(*given, settings=vllm_settings(config, runner), vocabulary=runner.vocab_size)


def vllm_settings(config: ServerConfig, runner: "Runner | PacedRunner") -> dict[str, Any]:
    """What vLLM's front ends are told of this engine core."""
    return {
        "block_size": config.block_size,
        "dtype": str(runner.details.get("dtype", "float32")),
        "data_parallel_size": config.data_parallel_size,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "kv_cache_size_tokens": runner.num_blocks * config.block_size,
        "effective_attention_block_size": config.block_size,
    }


class SignsOfLife:
    """Tells the launcher that this engine core lives, for --liveness-timeout."""

    def __init__(self, control: Connection, timeout: float) -> None:
        self._control = control
        self._interval = timeout / 10
        self._sent = time.monotonic()

    def at_progress(self) -> None:
        """Called often while the model loads, when nobody could answer a Ping."""
        if self._interval and time.monotonic() - self._sent >= self._interval:
            self.send()

    def send(self) -> None:
        self._sent = time.monotonic()
        self._control.send_bytes(encode(Alive()))


def open_runner(
    config: ServerConfig, index: int, clock: "StageClock", on_progress: Callable[[], None]
) -> "Runner | PacedRunner":
    """The device that --device names, or its stand-in. Raises `ConfigError`. on_progress: called while it loads."""
    if pace := pace_of(config):
        return PacedRunner(config, pace, clock.idle_until)
    from lab_support.engine.runner import Runner  # with torch, of which a pace has no use

    return Runner(config, index, on_progress)


def make_scheduler(config: ServerConfig, runner: "Runner | PacedRunner") -> Scheduler:
    return Scheduler(
        block_size=config.block_size,
        num_blocks=runner.num_blocks,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=runner.max_model_len,
        end_token_ids=runner.end_token_ids,
        block_keys=BlockKeys(config.block_size, runner.own_context) if config.enable_prefix_caching else None,
        static=config.batching == "static",
    )


class EngineCore:
    """The loop of an engine core, and its counts."""

    def __init__(
        self,
        index: int,
        runner: "Runner | PacedRunner",
        scheduler: Scheduler,
        trace: Trace,
        clock: "StageClock",
        answer_ping: Callable[[], None],
    ) -> None:
        self.index = index
        self.answer_ping = answer_ping
        self.runner = runner
        self.scheduler = scheduler
        self.clock = clock
        self.traced = TracedCore(trace, self.clock) if trace.on else UntracedCore()
        self.ended = 0  # steps that have ended; the scheduler counts started steps
        self.abort_steps = self.abort_steps_max = 0
        self.clients: set[int] = set()  # the live API servers
        self.tells_all = False  # each API server publishes these stats, and not one of them for all
        self._stats_reader: int | None = None  # the API server that publishes this engine core's stats for all
        self._published = (0.0, (0, 0))  # when EngineStats were last sent, and (waiting, running) then

    def stop_at_sigterm(self, inbox: Inbox) -> None:
        """End the loop at SIGTERM, after the step under way."""

        # A signal handler may call SimpleQueue.put but not Queue.put, which could wait for a lock of its own thread.
        def stop(number: int, frame: object) -> None:
            inbox.put((None, 0))
            self.runner.interrupt()

        signal.signal(signal.SIGTERM, stop)

    def busy_loop(self, channels: EngineCoreChannels) -> None:
        """receive → schedule → run → send, until SIGTERM."""
        while self.receive(channels.inbox):
            if self.scheduler.has_work():
                step = self.scheduler.schedule()
                self.clock.lap("schedule")
                sampled = self.runner.run(step)
                self.clock.lap("run")
                outputs = self.scheduler.update(step, sampled)
                self.ended += 1
                channels.outbox.put(self.messages_for_clients(outputs))
                self.traced.stepped(step)
            if news := self.take_due_stats():
                channels.outbox.put(news)
            self.clock.lap("send")

    def receive(self, inbox: Inbox) -> bool:
        """Handle all messages that have arrived; wait for one only if there is no work. False: stop."""
        wait = not self.scheduler.has_work()
        while True:
            try:
                message, at = inbox.get(block=wait)
            except queue.Empty:
                self.clock.lap("receive")
                return True
            if wait:
                self.clock.lap("idle")
                wait = False
            if message is None:
                return False
            self.on_message(message, at)

    def on_message(self, message: Asked, at: int) -> None:
        """Handle one message, which arrived when `at` steps had ended."""
        match message:
            case Generate():
                key = (message.client_index, message.request_id)
                parent = (message.client_index, message.parent_id)
                request = Request(key, message.prompt_token_ids, message.sampling, parent, message.cache_salt)
                self.scheduler.add(request)
                self.traced.queued(key)
            case Abort():
                self.abort([(message.client_index, request_id) for request_id in message.request_ids], at)
            case Ping():
                self.answer_ping()
            case ApiServerJoined(client_index):
                self.clients.add(client_index)
            case ApiServerLeft(client_index):
                self.clients.discard(client_index)
                self.abort([key for key in self.request_keys() if key[0] == client_index], at)

    def request_keys(self) -> list[tuple[int, int]]:
        """(API server, its request) for each request of the scheduler, as `on_message` made them."""
        keys: Any = self.scheduler.request_ids
        return keys

    def abort(self, keys: list[tuple[int, int]], at: int) -> None:
        self.traced.abandoned(keys)
        if self.scheduler.abort(keys):
            steps = self.steps_ended() - at
            self.abort_steps += steps
            self.abort_steps_max = max(self.abort_steps_max, steps)

    def steps_ended(self) -> int:
        """Also called in the input thread, which marks each arrival with this count."""
        return self.ended

    def messages_for_clients(self, outputs: list[Output]) -> list[tuple[int, Message]]:
        """The outputs of a step, as one message for each API server concerned."""
        by_client: dict[int, list[SequenceTokens]] = {}
        prompts: dict[int, list[PromptScores]] = {}
        cached: dict[int, list[CachedTokens]] = {}
        for output in outputs:
            key: Any = output.request_id  # as `on_message` made it
            client_index, request_id = key
            sequences = by_client.setdefault(client_index, [])
            if output.prompt_logprobs is not None:
                told = PromptScores(request_id, output.prompt_logprobs)
                prompts.setdefault(client_index, []).append(told)
                continue
            sequences.append(SequenceTokens(request_id, output.token_ids, output.finish_reason, output.logprobs))
            if output.cached_tokens:
                cached.setdefault(client_index, []).append(CachedTokens(request_id, output.cached_tokens))
        return [
            (client_index, Tokens(self.index, sequences, prompts.get(client_index, []), cached.get(client_index, [])))
            for client_index, sequences in by_client.items()
        ]

    def take_due_stats(self) -> list[tuple[int, Message]]:
        """Stats that are due: the coordinator's at each change, one API server's periodically and when idle."""
        counts = self.scheduler.stats
        at, load = self._published
        now = time.monotonic()
        changed = load != (counts.waiting, counts.running)
        due = now - at >= STATS_INTERVAL or not self.scheduler.has_work()
        if not changed and not due:
            return []
        self._published = (now if due else at, (counts.waiting, counts.running))
        destinations = [COORDINATOR] * changed + self.choose_stats_readers() * due
        return [(destination, self.stats()) for destination in destinations]

    def choose_stats_readers(self) -> list[int]:
        """One API server, the same one for as long as it lives; an empty list if none is alive. Or all that are."""
        if self.tells_all:
            return sorted(self.clients)
        if self._stats_reader not in self.clients:
            self._stats_reader = min(self.clients, default=None)
        return [] if self._stats_reader is None else [self._stats_reader]

    def stats(self) -> EngineStats:
        counts = self.scheduler.stats
        return EngineStats(
            engine_index=self.index,
            running=counts.running,
            waiting=counts.waiting,
            free_blocks=counts.free_blocks,
            total_blocks=counts.total_blocks,
            steps=counts.steps,
            prompt_tokens=counts.prompt_tokens,
            generation_tokens=counts.generation_tokens,
            preemptions=counts.preemptions,
            aborts=counts.aborts,
            abort_steps=self.abort_steps,
            abort_steps_max=self.abort_steps_max,
            prefix_cache_queries=counts.prefix_cache_queries,
            prefix_cache_hits=counts.prefix_cache_hits,
            stage_seconds=dict(self.clock.seconds),
            pace=self.runner.pace_counts,
        )


class StageClock:
    """Total seconds spent in each stage of the loop. `idle` is waiting for a request."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("idle", "receive", "schedule", "run", "send"), 0.0)
        self.ended_at = dict.fromkeys(self.seconds, 0.0)
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to `stage`."""
        now = time.monotonic()
        self.seconds[stage] += now - self._last
        self.ended_at[stage] = self._last = now

    def idle_until(self) -> float:
        """The end of the last wait for a request, by `time.monotonic()`."""
        return self.ended_at["idle"]


class UntracedCore:
    """An engine core's calls to its trace, without --trace-dir. A key is (API server, its request)."""

    def arrived(self, message: ToEngineCore) -> None:
        """Called in the input thread."""

    def queued(self, key: tuple[int, int]) -> None: ...

    def abandoned(self, keys: list[tuple[int, int]]) -> None: ...

    def stepped(self, step: Step) -> None:
        """Called once the tokens of a step are with the output thread."""


class TracedCore(UntracedCore):
    """Writes them to the trace."""

    def __init__(self, trace: Trace, clock: StageClock) -> None:
        self._add = trace.add
        self._ended_at = clock.ended_at

    def arrived(self, message: ToEngineCore) -> None:
        if isinstance(message, Generate):
            self._add(events.Arrived(time.monotonic(), message.client_index, message.request_id))

    def queued(self, key: tuple[int, int]) -> None:
        self._add(events.Queued(time.monotonic(), *key))

    def abandoned(self, keys: list[tuple[int, int]]) -> None:
        for key in keys:
            self._add(events.Abandoned(time.monotonic(), *key))

    def stepped(self, step: Step) -> None:
        ended: dict[str, float] = self._ended_at
        decodes: list[int] = []
        for sequence in step.decodes:
            decodes += sequence.request_id  # type: ignore[arg-type]
        prefills: list[int] = []
        for chunk in step.chunks:
            prefills += (*chunk.sequence.request_id, chunk.num_tokens)  # type: ignore[misc]
        at, scheduled_at, ran_at = ended["receive"], ended["schedule"], ended["run"]
        self._add(events.Step(at, scheduled_at, ran_at, time.monotonic(), decodes, prefills))
