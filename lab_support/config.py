"""One frozen `ServerConfig` with all settings of a server; the flags of `lab serve` are made from its fields.

The names are vLLM's if vLLM has the flag. Nothing here imports a library, so that a wrong flag is refused in
milliseconds and every other module may import this one.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support import flags
from lab_support.api_key import ApiKeyError, find_api_keys
from lab_support.flags import as_flag, count, flag
from lab_support.plural import counted

_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")
MODEL_IN_THE_BOX = Path(__file__).resolve().parent.parent / "data" / "model"


class ConfigError(ValueError):
    """A setting that can't work. The text says what was got, what is allowed and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(in_utf8(text))


def is_utf8(name: str) -> bool:
    """Whether `name` was UTF-8. Python turns other bytes into surrogates, which no encoder accepts (PEP 383)."""
    return _NOT_UTF8.search(name) is None


def in_utf8(text: str) -> str:
    """`text` with U+FFFD in place of each byte that is not UTF-8."""
    return _NOT_UTF8.sub("\N{REPLACEMENT CHARACTER}", text)


def length(text: str) -> int | None:
    """Like `count`; None for vLLM's auto and -1, which mean the default: the longest that fits."""
    return None if text.strip() in ("auto", "-1") else count(text)


def origins_from_json(text: str) -> tuple[str, ...]:
    """Parses --allowed-origins in vLLM's grammar."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a JSON list of strings, such as '[\"*\"]'")
    return tuple(given)


_ACCEPT = "least-loaded" if sys.platform == "linux" else "shared"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Checked when it is made: a `ServerConfig` that exists is consistent in itself (`ConfigError` otherwise).

    Settings that depend on the machine or on the model folder are checked by the process that opens them.
    """

    model: Path = flag(
        MODEL_IN_THE_BOX,
        "folder of a Llama, Mistral, Qwen2 or Qwen3 model in Hugging Face format",
        type=Path,
        shown="data/model",
        group="model",
    )
    served_model_name: tuple[str, ...] = flag(
        (),
        "names that clients may use; answers have the first; by default the folder's name",
        type=str,
        many=True,
        group="model",
    )
    load_format: str = flag(
        "auto",
        "auto reads safetensors; dummy makes random weights and needs only config.json",
        choices=("auto", "dummy"),
        group="model",
    )
    generation_config: str = flag(
        "auto",
        "source of sampling defaults; auto: the model folder's generation_config.json; vllm: none; otherwise "
        "a folder with such a file, whose max_new_tokens then limits every answer",
        group="model",
    )
    max_model_len: int | None = flag(
        None,
        "longest prompt plus output, in tokens; the model's own limit by default",
        type=length,
        metavar="INT",
        group="model",
    )
    trust_remote_code: bool = flag(
        False, "accepted if the folder names no code of its own; such code is never run", group="model"
    )

    host: str = flag("127.0.0.1", "address to bind")
    port: int = flag(8000, "port to bind; 0 lets the kernel choose one", type=int)
    uds: str | None = flag(
        None,
        "path of a Unix domain socket to bind instead of a port; a socket file left by a killed server is replaced",
    )
    api_key: tuple[str, ...] = flag(
        (),
        "require `Authorization: Bearer KEY` with one of these keys on all routes but /health, /ping, / and /docs; "
        "other users can read them in the process table; to hide a key, use --api-key-file, or LAB_API_KEY or "
        "VLLM_API_KEY in the environment",
        type=str,
        many=True,
    )
    api_key_file: str | None = flag(None, "file that holds the key; white space at its ends is stripped")
    allowed_origins: tuple[str, ...] = flag(
        (),
        'web pages that may use this server besides its own, as a JSON list: \'["http://localhost:3000"]\'; "*" is all',
        type=origins_from_json,
        metavar="JSON",
    )
    ready_fd: int | None = flag(
        None, "inherited descriptor on which one JSON line is written once the server is ready", type=int
    )
    max_num_queued_reqs: int = flag(
        1024,
        "most sequences (a request's prompts times its n) over all API servers; beyond that new requests get 503; "
        "a single request for more gets 400; 0: no limit",
    )
    max_body_bytes: int = flag(4 * 1024 * 1024, "most bytes of a request body; a larger one gets 413")
    enable_prompt_tokens_details: bool = flag(
        False, "report in `usage` how many tokens of the prompt were in the prefix cache"
    )
    stream_interval: int = flag(
        1,
        "tokens in each event of a streamed answer; its first token and its last ones are sent at once; more cost an "
        "API server less per token, but reach the client in bursts",
    )
    body_timeout: float = flag(10.0, "seconds within which a request body must arrive; a slower one gets 408")
    api_server_memory_mib: int = flag(
        128,
        "most MiB that each API server holds for its clients: arriving bodies, their texts and tokens, collected or "
        "unread answers; when it is full, the request that holds most gets 503, or its stream an error; besides, "
        "a process needs 60 MiB of its own, and up to 0.3 MiB for a connection that sends or does not read",
    )
    log_level: str = flag("info", "how much to log", choices=("debug", "info", "warning", "error"))
    trace_dir: str | None = flag(
        None,
        "folder in which each process writes when it started, and when it did what for each request, for `lab trace`; "
        "prompts and answers are not written",
    )
    trace_dir_mib: int = flag(256, "most MiB of trace files in that folder; the oldest are removed")

    api_server_count: int = flag(
        2, "number of API server processes, which accept from the port", group="processes", short=("-asc",)
    )
    frontend: str = flag(
        "lab",
        "who serves HTTP; lab: this server's own API servers; vllm-rs, vllm-rs:PATH: vLLM's front end, a program "
        "of its own, found by VLLM_RUST_FRONTEND_PATH, beside an installed vllm, or at PATH",
        metavar="{lab,vllm-rs[:PATH]}",
        group="processes",
    )
    engine_core: str = flag(
        "own",
        "who makes the tokens; own: this server's engine cores; vllm: vLLM's own engine core, as `vllm serve "
        "--headless` starts it in an environment of its own (--vllm-python)",
        choices=("own", "vllm"),
        group="processes",
    )
    vllm_python: str | None = flag(
        None, "the Python of the environment that has vllm, for --engine-core vllm", metavar="PATH", group="processes"
    )
    headless: bool = flag(
        False,
        "serve no HTTP, and be a single engine core: rank --data-parallel-start-rank of a running `vllm serve "
        "--data-parallel-size N --data-parallel-size-local …` on this machine",
        group="processes",
    )
    data_parallel_start_rank: int = flag(0, "this engine core's rank there", group="processes", short=("-dpr",))
    data_parallel_address: str = flag(
        "127.0.0.1", "where that vLLM's launcher is: on this machine", group="processes", short=("-dpa",)
    )
    data_parallel_rpc_port: int = flag(
        29550, "the port of that vLLM's launcher, as it was given there", group="processes", short=("-dpp",)
    )
    accept: str = flag(
        _ACCEPT,
        "which API server takes the next connection; shared: the first whose event loop accepts; exclusive: the one "
        "that the kernel wakes; least-loaded: the one with the fewest connections; reuseport: the one chosen by a hash "
        "of the addresses, each with its own socket; handoff: the one to which the launcher passes it",
        choices=("shared", "exclusive", "least-loaded", "reuseport", "handoff"),
        group="processes",
    )
    backlog: int = flag(
        2048, "connections that may wait to be accepted; the kernel limits it to net.core.somaxconn", group="processes"
    )
    restart_api_servers: bool = flag(
        True, "replace an API server that has died; otherwise the server ends with it", group="processes"
    )
    api_server_restart_limit: int = flag(
        5,
        "most replacements of one API server within a minute; a new one that does not become ready does not count "
        "while others serve, and is tried again",
        group="processes",
    )
    ready_timeout: float = flag(
        600.0,
        "seconds within which every process must be ready at the start; an API server that replaces another has the "
        "same time, but at most 60",
        group="processes",
    )
    liveness_timeout: float = flag(
        0.0,
        "seconds after which a process that shows no sign of life (stopped, deadlocked, in an endless loop) is "
        "reported with its stack and killed; 0: never; 30 finds them early, and spares slow steps and cold disks",
        group="processes",
    )
    data_parallel_size: int = flag(
        1,
        "number of engine cores, each with a copy of the model, and each on the next GPU if there are several",
        group="processes",
        short=("-dp",),
    )
    start_method: str | None = flag(
        None,
        "start method of engine cores; by default LAB_START_METHOD, or else spawn; API servers always use spawn",
        choices=("spawn", "forkserver", "fork"),
        group="processes",
    )
    shutdown_timeout: float = flag(
        5.0, "seconds for running requests to finish after SIGTERM or Ctrl-C", group="processes"
    )

    device: str = flag(
        "auto",
        "where engine cores compute: auto (a GPU if there is one), cpu or cuda; paced:NAME and paced:FILE compute "
        "nothing: a stand-in that takes the time of a recorded GPU, NAME (8B, 1B), or of the table in FILE",
        metavar="{auto,cpu,cuda,paced:…}",
        group="engine",
    )
    batching: str = flag(
        "continuous",
        "when waiting sequences join; continuous: at any step; static: all at once, when the last batch has ended",
        choices=("continuous", "static"),
        group="engine",
    )
    dtype: str = flag(
        "auto",
        "arithmetic; auto is float32 on a CPU and the model's own type on a GPU",
        choices=("auto", "float32", "bfloat16", "float16", "float", "half"),
        group="engine",
    )
    enforce_eager: bool = flag(False, "launch each kernel separately: capture no CUDA graphs", group="engine")
    max_num_seqs: int = flag(64, "most sequences in one step", group="engine")
    max_num_batched_tokens: int = flag(
        512, "most tokens in one step; longer prompts are computed in chunks", group="engine"
    )
    block_size: int = flag(16, "tokens in one block of the KV cache", group="engine")
    num_gpu_blocks_override: int | None = flag(
        None,
        "blocks in the KV cache (vLLM's name, also on a CPU); sized from memory by default",
        type=count,
        group="engine",
    )
    enable_prefix_caching: bool = flag(
        True,
        "keep full blocks of the KV cache after use, so that a prompt which begins like an earlier one need not be "
        "computed from its start; the time to the first token then tells whether somebody has sent the same prefix "
        "before: requests with a `cache_salt` share only with those of the same salt",
        group="engine",
    )
    gpu_memory_utilization: float = flag(0.9, "share of the GPU's memory that an engine core may use", group="engine")
    torch_threads: int = flag(1, "torch's threads in each engine core on a CPU", group="engine")

    def __post_init__(self) -> None:
        for name in MANY:
            if isinstance(one := getattr(self, name), str):
                object.__setattr__(self, name, (one,))
        object.__setattr__(self, "dtype", _SAME_DTYPE.get(self.dtype, self.dtype))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # NaN fails, too
                raise ConfigError(f"{as_flag(name)}: got {value}, expected at least {least}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port: got {self.port}, expected 0 (the kernel chooses) to 65535")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(
                f"--gpu-memory-utilization: got {self.gpu_memory_utilization}, expected more than 0 and at most 1"
            )
        for choice in flags.flags_of(ServerConfig):
            allowed = choice.metadata["choices"]
            if allowed and getattr(self, choice.name) not in (*allowed, choice.default):
                raise ConfigError(
                    f"{as_flag(choice.name)}: got {getattr(self, choice.name)!r}, expected one of {', '.join(allowed)}"
                )
        self._check_frontend()
        self._check_engine_core()
        self._check_headless()
        self._check_accept()
        self._check_device()
        if self.api_key:  # also of a config that no command line made
            object.__setattr__(self, "api_key", _api_keys(self.api_key, None))
        self._check_names()
        self._check_origins()

    def _check_names(self) -> None:
        """Names and keys that clients must be able to send. (In the folder's name U+FFFD replaces other bytes.)"""
        for name in self.served_model_name:
            if not name or not is_utf8(name):
                got = f"{name}, which is not UTF-8" if name else "an empty name"
                raise ConfigError(f"--served-model-name: got {got}; name the model in UTF-8")
        if not all(map(is_utf8, self.api_key)):
            raise ConfigError("--api-key: got a key that is not UTF-8; make one of printable ASCII")

    def _check_frontend(self) -> None:
        name, _, path = self.frontend.partition(":")
        if name not in ("lab", "vllm-rs") or (name == "lab" and path) or self.frontend.endswith(":"):
            raise ConfigError(f"--frontend: got {self.frontend!r}, expected lab, vllm-rs or vllm-rs:PATH")
        if self.uses_vllm_rs:
            if self.accept not in ("shared", _ACCEPT):
                why = "which vllm-rs does not do: it accepts from the one socket that it is given"
                raise ConfigError(f"--accept: got {self.accept}, {why}; use --accept shared")
            if len(self.api_key) > 1:
                why = "but vllm-rs takes several on its command line alone, which every user of the machine can read"
                raise ConfigError(f"--api-key: got {len(self.api_key)} keys, {why}; give one, or use --frontend lab")
            object.__setattr__(self, "accept", "shared")

    def _check_engine_core(self) -> None:
        if not self.uses_vllm_core:
            if self.vllm_python is not None:
                raise ConfigError("--vllm-python: got it without --engine-core vllm; give both, or leave it out")
            return
        unfit = {
            "--frontend vllm-rs": self.uses_vllm_rs and "both ends would be vLLM's; use `vllm serve`",
            "--data-parallel-size": self.data_parallel_size > 1 and "one engine core of vLLM's is all that it can do",
            f"--device {self.device}": self.device != "auto" and "vLLM's own build decides where it computes",
            "--batching static": self.batching != "continuous" and "vLLM's engine core batches continuously",
        }
        for name, why in unfit.items():
            if why:
                raise ConfigError(
                    f"{name}: got it together with --engine-core vllm, but {why}; leave out one of the two"
                )
        object.__setattr__(self, "restart_api_servers", False)  # its engine core can't meet another API server

    def _check_headless(self) -> None:
        if not 1 <= self.data_parallel_rpc_port <= 65535:
            raise ConfigError(f"--data-parallel-rpc-port: got {self.data_parallel_rpc_port}, expected 1 to 65535")
        if self.data_parallel_address not in ("127.0.0.1", "localhost"):
            why = "expected 127.0.0.1: all processes are on one machine here"
            raise ConfigError(f"--data-parallel-address: got {self.data_parallel_address}, {why}")
        if not self.headless:
            if self.data_parallel_start_rank:
                raise ConfigError("--data-parallel-start-rank: got it without --headless; give both, or leave it out")
        elif self.data_parallel_start_rank >= self.data_parallel_size:
            got = f"got {self.data_parallel_start_rank} of --data-parallel-size {self.data_parallel_size}"
            raise ConfigError(f"--data-parallel-start-rank: {got}, expected less; give the size that vLLM was given")
        elif self.uses_vllm_core or self.uses_vllm_rs:
            raise ConfigError("--headless: got it together with --engine-core or --frontend, of which it has its own")

    @property
    def uses_vllm_core(self) -> bool:
        return self.engine_core == "vllm"

    @property
    def uses_vllm_rs(self) -> bool:
        return self.frontend != "lab"

    def _check_accept(self) -> None:
        if self.accept != "shared" and sys.platform != "linux":
            raise ConfigError(f"--accept: got {self.accept}, which needs Linux; use --accept shared here")
        if self.accept == "reuseport" and self.uds:
            raise ConfigError(
                "--accept: got reuseport together with --uds, but Unix sockets have no SO_REUSEPORT: "
                "a path leads to one socket; leave out one of the two"
            )

    def _check_device(self) -> None:
        if self.device not in ("auto", "cpu", "cuda") and not self.paced:
            raise ConfigError(
                f"--device: got {self.device!r}, expected one of auto, cpu, cuda, paced:NAME (a recorded GPU's pace) "
                "and paced:FILE (a table of your own)"
            )

    def _check_origins(self) -> None:
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"--allowed-origins: got {origin!r}, expected scheme://host or scheme://host:port, as a browser "
                    "names it: in lower case and without a path; or * for all"
                )

    @property
    def paced(self) -> str | None:
        """NAME or FILE of `--device paced:…`; None under a device that computes."""
        return self.device.removeprefix(_PACED) if self.device.startswith(_PACED) else None

    @property
    def processes(self) -> str:
        """The processes in words: "2 API servers and 1 engine core"."""
        return f"{counted(self.api_server_count, 'API server')} and {counted(self.data_parallel_size, 'engine core')}"

    @property
    def model_name(self) -> str:
        """The name of the model in answers."""
        return self.model_names[0]

    @property
    def model_names(self) -> tuple[str, ...]:
        """All names by which clients may ask for it."""
        return self.served_model_name or (in_utf8(_folder_name(self.model)),)


def _folder_name(folder: Path) -> str:
    """The name as typed, so that a link's name counts; if that is no name (`.`, `..`), the folder's own."""
    name = folder.name if folder.name != ".." else ""
    return name or Path(os.path.realpath(folder)).name or "model"


_PACED = "paced:"
_SAME_DTYPE = {"float": "float32", "half": "float16"}
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([^\s/?#@A-Z:\[\]]+|\[[0-9a-f:.]+\])(:[0-9]+)?")

_LEAST = {
    "api_server_count": 1,
    "backlog": 1,
    "api_server_restart_limit": 1,
    "data_parallel_size": 1,
    "data_parallel_start_rank": 0,
    "max_num_seqs": 1,
    "max_num_batched_tokens": 1,
    "block_size": 1,
    "num_gpu_blocks_override": 1,
    "max_model_len": 1,
    "max_num_queued_reqs": 0,
    "max_body_bytes": 1,
    "api_server_memory_mib": 1,
    "stream_interval": 1,
    "body_timeout": 0.1,
    "trace_dir_mib": 1,
    "shutdown_timeout": 0.0,
    "ready_timeout": 0.1,
    "liveness_timeout": 0.0,
    "torch_threads": 1,
    "ready_fd": 0,
}


MANY = frozenset(each.name for each in flags.flags_of(ServerConfig) if each.metadata["many"])


def words_for(choices: Mapping[str, Any]) -> list[str]:
    """Settings as arguments of `lab serve`: `{"port": 0, "restart_api_servers": False}` and so on. None is left out."""
    return flags.words_for(choices, ServerConfig)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` one flag for each field of `ServerConfig`, in groups."""
    flags.add_flags(parser, ServerConfig)


def from_flags(arguments: argparse.Namespace) -> ServerConfig:
    """The config that the parsed flags describe. Raises `ConfigError`."""
    choices = flags.choices_of(arguments, ServerConfig)
    keys = _api_keys(choices["api_key"], choices["api_key_file"])
    names = tuple(choices["served_model_name"])
    return ServerConfig(**choices | {"api_key": keys, "served_model_name": names})


def _api_keys(given: Sequence[str], file: str | None) -> tuple[str, ...]:
    try:
        return find_api_keys(given, file, os.environ)
    except ApiKeyError as error:
        raise ConfigError(str(error)) from error
