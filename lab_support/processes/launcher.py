"""Launcher: binds the port, starts everyone in order, watches, and stops everyone. Holds no GPU, serves no HTTP.

Runs as:     lab:launcher
Started by:  you: `lab serve`
Receives:    Hello, Ready, Alive, Fatal from each child; SIGTERM, SIGINT, SIGHUP, SIGUSR1; under --accept handoff also
             connections, which it passes on
Sends:       Addresses, Ping to each child; Retire, Fatal to the API servers; ApiServerJoined, ApiServerLeft to the
             engine cores; SIGTERM and SIGKILL
Holds:       the listening socket (reuseport: the guard of its port), the write end of the lifeline, the runtime
             directory and its lock; under --trace-dir also a file
Dies when:   SIGTERM, Ctrl-C or SIGHUP (drains; a second one stops at once; Ctrl-C and SIGHUP are ignored if they were
             ignored at the start, as under nohup), a child is not ready in time, or any child ends. But an API server
             that dies once the server is ready is replaced, unless --no-restart-api-servers, at most
             --api-server-restart-limit times a minute. With --liveness-timeout, a child that shows no sign of life
             for so long is killed
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

from setproctitle import setproctitle

from lab_support.boundary.counters import Counters
from lab_support.boundary.inheritance import LOADS, ChannelSockets, Run
from lab_support.boundary.lifeline import ExitCode, Lifeline, ServerMustEnd, describe_exit
from lab_support.boundary.listen_socket import url_of
from lab_support.boundary.listener import make_listener
from lab_support.boundary.messages import Fatal, Hello, Ready
from lab_support.boundary.signals import Signals
from lab_support.boundary.working_folder import anchored
from lab_support.config import ConfigError, ServerConfig
from lab_support.limits import raise_limits
from lab_support.log import never_wait, set_up_log
from lab_support.metric_files import metric_files
from lab_support.model_folder import ModelFolder
from lab_support.pace.choice import log_pace, pace_of
from lab_support.remote_code import check_no_code
from lab_support.signal_names import signal_name
from lab_support.supervision import python_processes, vllm_python, vllm_rs
from lab_support.supervision.api_server_slots import ApiServerSlots
from lab_support.supervision.children import Children, Event, Exited, Readable, Said, Signalled
from lab_support.supervision.liveness import Liveness
from lab_support.supervision.ready_line import ReadyServer, announce, check_ready_fd
from lab_support.supervision.replacement import ApiServers, in_words
from lab_support.supervision.runtime_directory import RuntimeDirectory
from lab_support.supervision.start_rule import Seen, asked_for, choose
from lab_support.tracing.files import MIB, TraceFiles
from lab_support.tracing.trace import make_trace

log = logging.getLogger("lab.launcher")

GRACE = 0.8  # seconds beyond --shutdown-timeout after which the remaining children are killed
GRACE_OF_VLLM = 5.0  # the same under --engine-core vllm; it is more than vllm_engine_core.PATIENCE


def main(config: ServerConfig, said: Sequence[str] = ()) -> int:
    """Run a server until it ends; returns its `ExitCode`. said: remarks about its flags, for the log.

    When this returns, every process has been waited for and no file or socket is left. Worst case after a signal:
    --shutdown-timeout, GRACE, a second or two to stop Python's own processes, and the time that the kernel takes to
    kill.
    """
    never_wait()
    set_up_log(config.log_level, "launcher")
    for line in said:
        log.warning("%s", line)
    setproctitle("lab:launcher")
    try:
        with ExitStack() as stack:
            Launcher(anchored(config), stack).run()
    except ConfigError as error:
        print(f"lab serve: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    except ServerMustEnd as ended:
        if ended.code != ExitCode.STOPPED:
            print(f"lab serve: {ended}", file=sys.stderr)
        return ended.code
    except OSError as error:
        print(f"lab serve: the server can't be set up: {in_words(error)}", file=sys.stderr)
        return ExitCode.FAILED
    raise AssertionError("a launcher ends by raising a reason")


class Launcher:
    """One server. `stack` closes everything opened here, last opened first, so the children end before all else."""

    def __init__(self, config: ServerConfig, stack: ExitStack) -> None:
        self.config = config
        begun = time.monotonic()
        self.run_id = os.urandom(4).hex()
        self.details: dict[str, dict[str, str | int | float]] = {}
        raise_limits(config)
        asked, asked_by = asked_for(config.start_method, os.environ)
        self.start_choice = choose(asked, Seen.here(), asked_by)
        check_ready_fd(config.ready_fd)
        _log_notices(ModelFolder.open(config.model, config.load_format, config.generation_config))
        if pace := pace_of(config):
            log_pace(config, pace)
        if config.batching == "static":
            log.warning("--batching static: no request joins a batch before all of the last one have ended")
        if config.uses_vllm_rs:
            for warning in vllm_rs.remarks(config):
                log.warning("%s", warning)
        if config.uses_vllm_core:
            for remark in vllm_python.remarks(config):
                log.warning("%s", remark)
        if config.trust_remote_code:
            check_no_code(config.model)
        trace_files = make_trace_files(config, self.run_id)
        self.trace = make_trace(trace_files, "launcher")
        self.trace.milestone("first code", at=begun)
        self.signals = stack.enter_context(Signals())  # first, because an interrupted launcher cleans up from here on
        self.counters = stack.enter_context(Counters(2 * config.api_server_count))  # retiring API servers and new ones
        self.listener = stack.enter_context(make_listener(config, self.counters))
        self.trace.milestone("port open", detail=url_of(self.listener.bound))
        self.directory = stack.enter_context(RuntimeDirectory.make(self.run_id, metric_files(config)))
        with_coordinator = config.data_parallel_size > 1
        self.channel_sockets = stack.enter_context(
            ChannelSockets(self.directory.socket_path, config.api_server_count, with_coordinator)
        )
        self.lifeline = stack.enter_context(Lifeline())
        if self.start_choice.method == "forkserver":
            python_processes.keep_sockets_in(str(self.directory.path))
        stack.callback(python_processes.stop_python_processes)
        self.children = stack.enter_context(
            Children(
                self.lifeline.read_end,
                str(self.directory.path),
                self.close_after_fork,
                trace_files,
                self.trace,
                stacks=config.liveness_timeout > 0,
            )
        )
        self.liveness = Liveness(config.liveness_timeout, self.children, self.can_answer)
        run = Run(self.run_id, str(self.directory.metrics), self.counters, self.start_choice)
        slots = ApiServerSlots(config, self.children, run, self.listener, self.channel_sockets)
        self.api_servers = ApiServers(config, self.children, slots, self.directory.mend)

    def can_answer(self, name: str) -> bool:
        """Whether this child is a program of ours. vLLM's front end knows no Ping, and neither does its engine core."""
        foreign = "api-" if self.config.uses_vllm_rs else "engine-" if self.config.uses_vllm_core else None
        return foreign is None or not name.startswith(foreign)

    def unlink_sockets(self) -> None:
        self.directory.unlink_sockets(but=LOADS)

    def close_after_fork(self) -> None:
        """In an engine core made by fork: close this object's descriptors."""
        self.lifeline.close_write_end()
        self.directory.close_lock()
        self.signals.close()
        self.listener.close_after_fork()
        self.channel_sockets.close()
        self.counters.close()

    def run(self) -> None:
        """Never returns: raises `ServerMustEnd`, after stopping in good order all that could be."""
        drain = 0.0  # nothing to finish yet
        try:
            self.start_or_say_why()
            self.await_ready()
            drain = self.config.shutdown_timeout
            self.announce()
            while True:
                self.wait_for_something()
        except ServerMustEnd as ended:
            self.stop(ended, drain)
            raise
        except Exception as error:  # a defect or a lack of resources: tell clients before their connections end
            log.exception("the launcher failed")
            failed = ServerMustEnd(ExitCode.FAILED, f"the launcher failed: {type(error).__name__}: {error}")
            self.stop(failed, drain)
            raise failed from error

    def wait_for_something(self) -> None:
        """Handle one event, or wait until something is due."""
        due = [at for at in (self.api_servers.due, self.listener.due, self.liveness.due) if at is not None]
        event = next(self.children.events(self.signals, min(due, default=None), self.listener.waitables), None)
        if event is not None:
            self.on_event(event)
        self.on_due()

    def on_due(self) -> None:
        self.on_found_ready()
        self.on_lost()
        self.api_servers.on_due()
        self.listener.on_due()

    def start_or_say_why(self) -> None:
        """Start all children. Raises `ServerMustEnd` if there is no room for one."""
        try:
            self.start_children()
        except OSError as error:
            why = f"a process can't be started: {in_words(error)}, so the server ends"
            raise ServerMustEnd(ExitCode.FAILED, why) from error

    def start_children(self) -> None:
        """Start engine cores first, because they load longest. API servers start meanwhile."""
        config, choice = self.config, self.start_choice
        log.info("engine cores start by %s (%s), API servers by spawn", choice.method, choice.asked_by)
        if choice.warning:
            log.warning(choice.warning)
        foreign = config.paced or config.uses_vllm_core  # has no use for torch, at least for ours
        needs = () if foreign else ("lab_support.engine.runner",)
        for i in range(config.data_parallel_size):
            module = f"lab_support.processes.{'vllm_engine_core' if config.uses_vllm_core else 'engine_core'}"
            self.children.start(choice.method, f"engine-{i}", module, config, i, needs=needs)
        self.api_servers.start_all()
        if self.channel_sockets.stats and self.channel_sockets.loads:
            module = "lab_support.processes.coordinator"
            self.children.start(
                "spawn", "coordinator", module, config, self.channel_sockets.stats, self.channel_sockets.loads
            )
        self.channel_sockets.close()

    def await_ready(self) -> None:
        """Wait for each child, by name: hello, addresses, ready. A child that ends instead ends the server."""
        deadline = time.monotonic() + self.config.ready_timeout
        while awaited := set(self.children.running) - self.details.keys():
            if time.monotonic() >= deadline:
                self.on_late(awaited)
            due = [at for at in (deadline, self.api_servers.next_look, self.liveness.due) if at is not None]
            event = next(self.children.events(self.signals, min(due)), None)
            if event is not None:
                self.on_event(event)
            self.on_found_ready()
            self.on_lost()
        self.unlink_sockets()
        self.api_servers.serving = True

    def on_found_ready(self) -> None:
        """Take note of front ends that accept connections now, and can't say so."""
        for name in self.api_servers.found_ready():
            self.on_event(Said(name, Ready({"program": vllm_rs.NAME, "pid": self.children.pids[name]})))

    def on_lost(self) -> None:
        """Kill children that show no sign of life. Raises `ServerMustEnd` if the server can't go on without one."""
        for name, found in self.liveness.lost():
            log.error("%s %s", name, found)
            self.children.send_signal(name, signal.SIGKILL)
            cause = found.partition("\n")[0]
            if not name.startswith("api-"):
                raise ServerMustEnd(ExitCode.FAILED, f"{name} {cause}; it was killed, so the server ends")
            self.api_servers.on_fatal(name, f"it {cause}; it was killed")

    def on_late(self, awaited: set[str]) -> NoReturn:
        """Name the late children: only engine cores if one of them is late, because API servers wait for them."""
        for name in awaited:
            self.children.send_signal(name, signal.SIGKILL)
        late = sorted({name for name in awaited if name.startswith("engine-")} or awaited)
        limit = f"--ready-timeout {self.config.ready_timeout:g} s, so the server ends"
        raise ServerMustEnd(ExitCode.FAILED, f"not ready within {limit}: {', '.join(late)}")

    def on_event(self, event: Event) -> None:
        """Handle an event, at any time of the server's life. Raises `ServerMustEnd` if the server can't go on."""
        if isinstance(event, Said):
            self.liveness.on_message(event.name, event.message)
        match event:
            case Said(name, Hello()):
                self.trace.milestone("HELLO received", name)
                self.children.tell(name, self.channel_sockets.addresses)
            case Said(name, Ready(details)):
                self.trace.milestone("READY received", name)
                self.details[name] = details
                log.info("%s is ready %s", name, details or "")
                if name.startswith("api-"):
                    self.api_servers.on_ready(name)
            case Said(name, Fatal(_, cause, code)):
                self.on_fatal(name, cause, code)
            case Exited(name, code) if name.startswith("api-"):
                self.api_servers.on_exit(name, code)
            case Exited(name, code):
                raise ServerMustEnd(ExitCode.FAILED, f"{name} {describe_exit(code)}, so the server ends")
            case Readable():
                self.listener.on_readable()
            case Signalled(signal.SIGUSR1) if self.config.uses_vllm_core:
                log.warning("SIGUSR1: vLLM's engine core can't meet other API servers; stop and start the server")
            case Signalled(signal.SIGUSR1):
                self.api_servers.rolling_restart()
            case Signalled(number):
                log.info("%s: stopping", signal_name(number))
                self.trace.milestone("stopping", detail=signal_name(number))
                raise ServerMustEnd(ExitCode.STOPPED, signal_name(number))

    def on_fatal(self, name: str, cause: str, code: int) -> None:
        """A child says why it is about to end. Once the server is ready, `on_exit` decides about an API server."""
        if name.startswith("api-") and self.api_servers.serving:
            self.api_servers.on_fatal(name, cause)
            return
        raise ServerMustEnd(code, cause if code == ExitCode.REFUSED else f"{name} failed: {cause}")

    def announce(self) -> None:
        pids = {"launcher": os.getpid(), **self.children.pids}
        self.trace.milestone("ready")
        announce(self.config, ReadyServer(url_of(self.listener.bound), self.run_id, pids, self.details))

    def stop(self, ended: ServerMustEnd, drain: float) -> None:
        """Stop API servers first, so that running requests can finish within `drain` seconds; then the rest.

        The listening socket comes before them. It goes on listening until its last descriptor is closed, so a client
        that came meanwhile would wait for a reset in place of being refused.
        `Children` kills those that are late. A further signal makes all of them late.
        """
        self.listener.stop()
        deadline = time.monotonic() + (GRACE_OF_VLLM if self.config.uses_vllm_core else GRACE)
        if ended.code == ExitCode.STOPPED:
            deadline += drain
        else:
            for name in self.children.running:
                if name.startswith("api-"):
                    self.children.tell(name, Fatal("launcher", str(ended)))
        if self.end("api-", deadline):
            self.end("", deadline)

    def end(self, prefix: str, deadline: float) -> bool:
        """Send SIGTERM to the children named `prefix…` and wait for them. False: too late, or a further signal."""
        for name in self.children.running:
            if name.startswith(prefix):
                self.children.send_signal(name, signal.SIGTERM)
        events = self.children.events(self.signals, deadline)
        while any(name.startswith(prefix) for name in self.children.running):
            event = next(events, None)
            if event is None or (isinstance(event, Signalled) and event.number != signal.SIGUSR1):
                return False
        return True


def make_trace_files(config: ServerConfig, run_id: str) -> TraceFiles | None:
    """The place for the trace, if one is wanted. Raises `ConfigError` if nothing can be written there."""
    if config.trace_dir is None:
        return None
    files = TraceFiles(config.trace_dir, run_id, config.trace_dir_mib * MIB)
    try:
        files.make_directory()
    except OSError as error:
        why = f"--trace-dir: got {config.trace_dir}, but {in_words(error)}; name a folder that you may write to"
        raise ConfigError(why) from error
    return files


def _log_notices(folder: ModelFolder) -> None:
    """Log once what a user may not expect of this model folder."""
    for notice in folder.notices():
        log.warning(notice)
    if given := folder.sampling.given:
        words = ", ".join(f"{name} {value:g}" for name, value in given.items())
        log.info("requests that do not say otherwise get %s (from %s)", words, folder.sampling.source)
