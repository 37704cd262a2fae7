"""vLLM's front end: parses HTTP, tokenises, sends requests to engine cores, streams the answers. Written in Rust.

Runs as:     lab:api-0, lab:api-1, …, as its argv[0], with its own flags behind; its name in /proc/PID/comm is vllm-rs,
             and its lines in the log begin with `(RustFrontend pid=…)`: whose pid that is, the launcher's line says
Started by:  launcher, by spawn, under --frontend vllm-rs: this file runs first, and execve(2) puts vllm-rs in its place
Receives:    connections from the accept queue; vLLM's EngineCoreOutputs from every engine core; the loads, in vLLM's
             form, from the coordinator
Sends:       vLLM's EngineCoreRequest to engine cores; Hello to the launcher, before it becomes vllm-rs
Holds:       the listening socket and two Unix sockets for ZeroMQ, each inherited at its number over two execve(2)
Dies when:   SIGTERM (drains first), or launcher gone: the parent-death signal stays set over execve(2), where the
             lifeline's thread ends. It says nothing when it is ready; the launcher sees in /proc that it accepts
"""

import json
import os
import signal
from multiprocessing.connection import Connection

from lab_support.boundary.inheritance import ApiServerInheritance
from lab_support.boundary.lifeline import ExitCode
from lab_support.boundary.messages import Addresses, Fatal, FromLauncher, Hello, decoder, encode
from lab_support.config import ConfigError, ServerConfig
from lab_support.model_folder import ModelFolder
from lab_support.supervision.vllm_rs import find
from lab_support.tracing.trace import Trace


def main(name: str, trace: Trace, control: Connection, config: ServerConfig, given: ApiServerInheritance) -> int:
    """Becomes vllm-rs; returns only if it can't."""
    control.send_bytes(encode(Hello()))
    addresses = decoder(FromLauncher).decode(control.recv_bytes())
    assert isinstance(addresses, Addresses), addresses
    try:
        program = find(config.frontend)
        engines = _engines(config.data_parallel_size, addresses.loads)
        words = [f"lab:{name}", "frontend", *_descriptors(given), *engines, "--args-json", _settings(config)]
        trace.milestone("execve")
        trace.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, words, os.environ | _log(config) | _key(config))
    except ConfigError as error:
        control.send_bytes(encode(Fatal(name, str(error), ExitCode.REFUSED)))
    except OSError as error:
        control.send_bytes(encode(Fatal(name, f"vllm-rs can't be run: {error.strerror}", ExitCode.REFUSED)))
    return ExitCode.REFUSED


def _log(config: ServerConfig) -> dict[str, str]:
    return {"VLLM_LOGGING_LEVEL": config.log_level.upper(), "NO_COLOR": "1"}


def _key(config: ServerConfig) -> dict[str, str]:
    """The key, if clients need one, is in the environment, because every user of the machine can read a command line.

    The program takes no more than one from there (a comma is a part of it), and reads its settings from no file and no
    descriptor; so the configuration refuses several.
    """
    return {"VLLM_API_KEY": config.api_key[0]} if config.api_key else {}


def _descriptors(given: ApiServerInheritance) -> list[str]:
    """The three sockets by number, which stay open over execve(2) from here on."""
    words = []
    for flag, sock in (
        ("--listen-fd", given.source.socket),
        ("--input-listener-fd", given.inputs),
        ("--output-listener-fd", given.outputs),
    ):
        os.set_inheritable(sock.fileno(), True)
        words += [flag, str(sock.fileno())]
    return words


def _engines(count: int, loads: str | None) -> list[str]:
    """How many, and where the coordinator tells how busy each of them is, if there is a coordinator."""
    words = ["--engine-count", str(count), "--data-parallel-size", str(count)]
    return [*words, "--coordinator-address", loads] if loads else words


def _settings(config: ServerConfig) -> str:
    """The flags that both servers have, by vLLM's names, which are ours too."""
    folder = ModelFolder.open(config.model, config.load_format, config.generation_config)
    settings: dict[str, object] = {
        "model_tag": str(config.model),
        "served_model_name": list(config.model_names),
        "host": config.host,
        "port": config.port,
        "generation_config": config.generation_config,
        "max_model_len": config.max_model_len or folder.shape.context_length,
        "stream_interval": config.stream_interval,
        "enable_prompt_tokens_details": config.enable_prompt_tokens_details,
        "engine_ready_timeout_secs": round(config.ready_timeout),
        "shutdown_timeout": round(config.shutdown_timeout),
        "http_timeout_keep_alive": 5,
    }
    if config.allowed_origins:
        settings["allowed_origins"] = list(config.allowed_origins)
    return json.dumps(settings)
