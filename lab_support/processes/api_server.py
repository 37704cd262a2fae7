"""API server: speaks HTTP, owns no GPU, never loads torch.

Runs as:     lab:api-0, lab:api-1, …; lab:api-0-retiring once another has taken its place
Started by:  launcher, by spawn, with the socket that it accepts from (--accept: boundary/accept.py)
Receives:    connections; Tokens, EngineStats, EngineReady from every engine core; Loads from the coordinator;
             Addresses, Retire, Ping, Fatal from the launcher
Sends:       Generate, Abort to one engine core; Hello, Ready, Alive, Fatal to the launcher
Holds:       the listening socket (the launcher's own, by inheritance; reuseport: one of its own; handoff: a channel
             to the launcher instead), one ZeroMQ socket per direction, the counters; under --trace-dir also a file
Dies when:   SIGTERM (running requests finish first, within --shutdown-timeout), launcher gone, any Fatal, Retire
             (SIGUSR1 to the launcher: once its last connection has ended)
"""

import asyncio
import logging
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import uvloop
from setproctitle import setproctitle

from lab_support import __version__
from lab_support.boundary.accept import make_acceptor
from lab_support.boundary.channels import ApiServerChannels
from lab_support.boundary.inheritance import ApiServerInheritance
from lab_support.boundary.lifeline import ExitCode
from lab_support.boundary.messages import (
    Addresses,
    Alive,
    Fatal,
    FromLauncher,
    Hello,
    Ping,
    Ready,
    Retire,
    decoder,
    encode,
)
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.room import is_shortage
from lab_support.boundary.start_method import RETIRING, TITLE_PREFIX
from lab_support.config import ConfigError, ServerConfig
from lab_support.frontend.http.heap import give_free_memory_back
from lab_support.frontend.http.http_server import HttpServer
from lab_support.frontend.routing.engine_client import EngineClient
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.log import set_up_log
from lab_support.model_folder import ModelFolder
from lab_support.tracing.trace import Trace

if TYPE_CHECKING:
    from lab_support.frontend.http.middleware import Served

log = logging.getLogger("lab.api")

FAREWELL = 0.5  # seconds that open streams get to send their error event


def main(name: str, trace: Trace, control: Connection, config: ServerConfig, given: ApiServerInheritance) -> int:
    """Runs in the API server."""
    set_up_log(config.log_level, name)
    give_free_memory_back()
    # Before any metric is made, because prometheus_client reads the variable then.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = given.run.metrics_directory
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one text at a time needs no pool of threads
    trace.write_in_background()
    trace.milestone("HELLO")
    control.send_bytes(encode(Hello()))
    ended = False

    async def run() -> None:
        nonlocal ended
        await ApiServer(name, trace, control, config, given).run()
        ended = True

    try:
        uvloop.run(run())
    except ConfigError as error:
        control.send_bytes(encode(Fatal(name, str(error), ExitCode.REFUSED)))
        return ExitCode.REFUSED
    except Exception as error:
        if ended:  # Python starts a thread to close the event loop, and there may be no room for one
            return ExitCode.STOPPED
        if is_shortage(error):  # a later API server may find the room that this one lacked
            control.send_bytes(encode(Fatal(name, str(error))))
            return ExitCode.FAILED
        log.exception("the API server failed")
        control.send_bytes(encode(Fatal(name, f"{type(error).__name__}: {error}")))
        return ExitCode.FAILED
    return ExitCode.STOPPED


class ApiServer:
    """One API server, from the addresses it receives to its last connection. All of it runs in one event loop."""

    def __init__(
        self, name: str, trace: Trace, control: Connection, config: ServerConfig, given: ApiServerInheritance
    ) -> None:
        self.name = name
        self.trace = trace
        self.control = control
        self.config = config
        self.given = given
        self.folder = ModelFolder.open(config.model, config.load_format, config.generation_config)
        self.tokenizer = Tokenizer.open(self.folder)
        self.engines_ready = asyncio.Event()
        self.http: HttpServer | None = None

    async def run(self) -> None:
        """Returns when the last connection is closed."""
        loop = asyncio.get_running_loop()
        addresses = decoder(FromLauncher).decode(await asyncio.to_thread(self.control.recv_bytes))
        assert isinstance(addresses, Addresses), addresses
        self.trace.milestone("addresses")
        given, config = self.given, self.config
        with self.make_channels(addresses.loads) as channels:
            self.client = EngineClient(
                channels,
                given.source.slot,
                config.api_server_count,
                config.data_parallel_size,
                on_ready=self.engines_ready.set,
            )
            channels.watch(loop, self.client.on_message)
            loop.add_reader(self.control.fileno(), self.on_control)
            loop.add_signal_handler(signal.SIGTERM, self.drain)
            app = self.build_app()
            self.trace.milestone("application made")
            await self.engines_ready.wait()
            if self.client.fatal is None:
                await self.serve(app)

    def make_channels(self, loads: str | None) -> ApiServerChannels:
        """To our own engine cores, or to vLLM's."""
        given = (self.given.inputs, self.given.outputs, loads)
        if not self.config.uses_vllm_core:
            return ApiServerChannels(*given)
        from lab_support.boundary.vllm.front_end import Asking, VllmApiServerChannels

        return VllmApiServerChannels(*given, asking=Asking(self.given.source.slot, self.folder.end_token_ids))

    def build_app(self) -> "Served":
        # Imported here, not above, because PROMETHEUS_MULTIPROC_DIR must be set when prometheus_client is imported.
        from lab_support.frontend.routes import Identity, build_app

        counters = self.given.run.counters.claim(self.given.source.slot)
        identity = Identity(
            self.given.index,
            self.given.run.id,
            __version__,
            int(time.time()),
            {self.name: os.getpid()},
            engine_cores_started_by=self.given.run.engine_cores_started_by,
        )
        return build_app(self.config, self.folder, self.tokenizer, self.client, counters, identity, self.trace)

    async def serve(self, app: "Served") -> None:
        connections = OpenConnections(self.given.run.counters)
        acceptor = make_acceptor(self.config.accept, self.given.source, connections, self.config.backlog)
        self.http = HttpServer(app, acceptor, connections, on_started=self.tell_ready, trace=self.trace)
        await self.http.run_to_end()

    def tell_ready(self) -> None:
        self.trace.milestone("READY")
        self.control.send_bytes(encode(Ready({})))

    def on_control(self) -> None:
        """Handle a message from the launcher. The lifeline handles the end of the connection."""
        try:
            message = decoder(FromLauncher).decode(self.control.recv_bytes())
        except (EOFError, ConnectionResetError):
            asyncio.get_running_loop().remove_reader(self.control.fileno())
            return
        if isinstance(message, Fatal):
            self.give_up(message)
        elif isinstance(message, Retire):
            self.retire()
        elif isinstance(message, Ping):
            self.control.send_bytes(encode(Alive()))

    def retire(self) -> None:
        """Another API server has this one's place: finish all running requests, however long they take.

        Only a client that reads nothing of its answer for some seconds is cut off; otherwise it could keep this process
        alive forever.
        """
        if self.http is None:
            self.end_before_ready("another took its place before it was ready")
            return
        setproctitle(TITLE_PREFIX + self.name + RETIRING)
        self.http.retire()

    def drain(self) -> None:
        """SIGTERM: take no more connections, finish running requests, and give them up after --shutdown-timeout."""
        timeout = self.config.shutdown_timeout
        if self.http is None:
            self.end_before_ready("it was stopped before it was ready")
            return
        self.http.should_exit = True
        asyncio.get_running_loop().call_later(timeout, self.give_up, Fatal(self.name, "the server is shutting down"))

    def end_before_ready(self, why: str) -> None:
        """End without telling any client, because none has been accepted yet."""
        self.client.fatal = Fatal(self.name, why)
        self.engines_ready.set()

    def give_up(self, fatal: Fatal) -> None:
        """Tell all open streams why they end, then end the process."""
        self.client.fail(fatal)
        self.engines_ready.set()
        if self.http:
            self.http.should_exit = True
            asyncio.get_running_loop().call_later(FAREWELL, self.http.stop_waiting)
