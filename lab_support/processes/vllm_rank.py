"""Rank of a `vllm serve`: our engine core, one of the data-parallel ranks behind vLLM's own API servers.

Runs as:     lab:engine-1, or whichever --data-parallel-start-rank says
Started by:  you: `lab serve --headless`; it has no launcher and no children
Receives:    the addresses from vLLM's launcher; vLLM's EngineCoreRequest from each of its API servers
Sends:       HELLO and READY to vLLM's launcher; vLLM's EngineCoreOutputs to its API servers; its load to vLLM's
             coordinator
Holds:       the model, the KV cache, one ZeroMQ socket per direction and API server, all over TCP on loopback
Dies when:   SIGTERM or Ctrl-C (and tells vLLM's API servers, which end, too), vLLM's API server gone, an error in a
             step
"""

import logging
import signal
import sys
from collections.abc import Iterator, Sequence

from setproctitle import setproctitle

from lab_support.boundary.lifeline import ExitCode, vital
from lab_support.boundary.messages import EngineReady
from lab_support.boundary.vllm.rank import NotJoined, RankChannels, VllmLauncher
from lab_support.config import ConfigError, ServerConfig
from lab_support.flags import as_flag, flags_of
from lab_support.log import never_wait, set_up_log
from lab_support.processes.engine_core import EngineCore, StageClock, make_scheduler, open_runner, vllm_settings
from lab_support.tracing.trace import NoTrace

log = logging.getLogger("lab.engine")


def main(config: ServerConfig, said: Sequence[str] = ()) -> int:
    """Serve as a rank until it ends; returns its `ExitCode`. said: remarks about its flags, for the log."""
    name = f"engine-{config.data_parallel_start_rank}"
    never_wait()
    set_up_log(config.log_level, name)
    for line in (*said, *idle_flags(config)):
        log.warning("%s", line)
    setproctitle(f"lab:{name}")
    try:
        return serve(config)
    except (ConfigError, NotJoined) as error:
        print(f"lab serve: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    except Exception as error:
        log.exception("the rank failed")
        print(f"lab serve: the rank failed: {type(error).__name__}: {error}", file=sys.stderr)
        return ExitCode.FAILED


def idle_flags(config: ServerConfig) -> Iterator[str]:
    """A remark on flags that say something of HTTP or of other processes, of which a rank has none."""
    usual = ServerConfig()
    own = ("log_level", "headless", "ready_timeout")
    names = [each.name for each in flags_of(ServerConfig) if each.metadata["group"] in ("server", "processes")]
    others = [name for name in names if name not in own and not name.startswith("data_parallel_")]
    given = [as_flag(name) for name in others if getattr(config, name) != getattr(usual, name)]
    if given:
        yield f"{', '.join(given)}: accepted, but changes nothing under --headless"


def serve(config: ServerConfig) -> int:
    """Ask vLLM's launcher, load the model, connect, report ready, and run the loop. Raises `NotJoined`."""
    rank, clock = config.data_parallel_start_rank, StageClock()
    with VllmLauncher(config.data_parallel_rpc_port, rank) as launcher:
        told = launcher.hello(config.ready_timeout)
        runner = open_runner(config, rank, clock, lambda: None)
        core = EngineCore(rank, runner, make_scheduler(config, runner), NoTrace(), clock, lambda: None)
        ready = EngineReady(rank, runner.max_model_len, runner.num_blocks)
        core.clients |= set(range(len(told.inputs)))
        core.tells_all = True
        settings = vllm_settings(config, runner)
        given = (ready, core.steps_ended, None, vital)
        with RankChannels(told, *given, settings=settings, vocabulary=runner.vocab_size) as channels:
            core.stop_at_sigterm(channels.inbox)
            signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
            await_coordinator(channels, config.ready_timeout)
            try:
                if not channels.left:
                    launcher.ready()
                    log.info("rank %d is ready: %s", rank, runner.details)
                core.busy_loop(channels)
            finally:
                channels.say_dead()
            return ExitCode.LAUNCHER_GONE if channels.left else ExitCode.STOPPED


def await_coordinator(channels: RankChannels, seconds: float) -> None:
    """Raises `NotJoined`."""
    if not channels.admitted.wait(seconds):
        raise NotJoined(f"vLLM's coordinator did not let this rank in within {seconds:g} s")
