"""Coordinator: collects how busy each engine core is and tells all API servers.

Runs as:     lab:coordinator
Started by:  launcher, if there is more than one engine core
Receives:    EngineStats from every engine core; Addresses, Ping from the launcher
Sends:       Loads to every API server (as vLLM's coordinator does, to vLLM's front ends), at most every 100 ms; Hello,
             Ready, Alive to the launcher
Holds:       two listening sockets, adopted by ZeroMQ; under --trace-dir also a file
Dies when:   SIGTERM, launcher gone

An API server knows its own requests, but not those of its siblings. With the loads it can choose the least busy engine
core. Without news the coordinator still publishes every 5 s, for late subscribers.
"""

import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType

from lab_support.boundary.channels import CoordinatorChannels
from lab_support.boundary.lifeline import ExitCode
from lab_support.boundary.messages import (
    Alive,
    EngineLoad,
    EngineStats,
    FromLauncher,
    Hello,
    Loads,
    Ping,
    Ready,
    decoder,
    encode,
)
from lab_support.boundary.vllm.layouts import loads_message
from lab_support.config import ServerConfig
from lab_support.log import set_up_log
from lab_support.tracing.trace import Trace

LEAST_INTERVAL = 0.1  # seconds between two publications, as in vLLM
LONGEST_INTERVAL = 5.0


def main(
    name: str, trace: Trace, control: Connection, config: ServerConfig, stats: socket.socket, loads: socket.socket
) -> int:
    """Runs in the coordinator, until SIGTERM ends it at once, because it has nothing to finish."""
    set_up_log(config.log_level, name)
    signal.signal(signal.SIGTERM, _stop)
    trace.milestone("HELLO")
    control.send_bytes(encode(Hello()))
    pack = loads_message if config.uses_vllm_rs else encode
    with CoordinatorChannels(stats, loads, control, pack) as channels:
        trace.milestone("READY")
        control.send_bytes(encode(Ready({})))
        engines = [EngineLoad()] * config.data_parallel_size
        published, changed = 0.0, False
        while True:
            interval = LEAST_INTERVAL if changed else LONGEST_INTERVAL
            changed |= _update(engines, channels.receive(max(0.0, interval - (time.monotonic() - published))))
            if time.monotonic() - published >= (LEAST_INTERVAL if changed else LONGEST_INTERVAL):
                channels.publish(Loads(engines))
                published, changed = time.monotonic(), False
            _answer(control)


def _update(engines: list[EngineLoad], news: Iterable[EngineStats]) -> bool:
    """Write the news into `engines`; was there any?"""
    before = list(engines)
    for stats in news:
        usage = 1 - stats.free_blocks / stats.total_blocks
        engines[stats.engine_index] = EngineLoad(stats.waiting, stats.running, usage)
    return engines != before


def _answer(control: Connection) -> None:
    """Read what the launcher has sent; its Addresses say nothing new here. The lifeline handles its end."""
    with suppress(EOFError, ConnectionResetError):
        while control.poll():
            if isinstance(decoder(FromLauncher).decode(control.recv_bytes()), Ping):
                control.send_bytes(encode(Alive()))


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(ExitCode.STOPPED)
