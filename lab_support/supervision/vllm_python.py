"""Where vLLM's own engine core is, whether it can be used, and the command line that starts it.

vLLM lives in an environment of its own, of which `--vllm-python` names the Python. Nothing of it is imported here: the
server starts `vllm serve --headless` as any user would.
"""

import getpass
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab_support.boundary.start_method import told_by
from lab_support.config import ConfigError, ServerConfig
from lab_support.flags import as_flag, words_for

SPOKEN = ("0.32", "0.33")
"""The versions whose messages boundary/vllm/outputs.py reads; others are used with a warning."""
MODULE = "vllm.entrypoints.cli.main"
PASSED_ON = (
    *("load_format", "max_model_len", "dtype", "enforce_eager", "max_num_seqs", "max_num_batched_tokens"),
    *("num_gpu_blocks_override", "enable_prefix_caching", "gpu_memory_utilization"),
)
"""Flags that mean the same there. --block-size goes only if it isn't our default, which vLLM's CPU build can't have."""
OF_OUR_ENGINE_CORE = ("torch_threads",)
"""Flags of which vLLM's engine core has no equal."""
_ASK = "import importlib.metadata as found; print(found.version('vllm'))"


def find(config: ServerConfig) -> Path:
    """The Python that `--vllm-python` names. Raises `ConfigError` where none can run."""
    if config.vllm_python is None:
        raise ConfigError("--engine-core: got vllm, but no --vllm-python; name the Python of vLLM's own environment")
    path = Path(config.vllm_python)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ConfigError(
            f"--vllm-python: got {path}, expected the Python of an environment with vllm, such as DIR/bin/python"
        )
    return path


def version_of(python: Path) -> str:
    """vLLM's version there, such as 0.32.0+cpu. Raises `ConfigError` where there is none."""
    try:
        told = told_by(python, "-c", _ASK, seconds=60)
    except OSError as error:
        raise ConfigError(
            f"--vllm-python: {python} can't run on this machine: {error.strerror}; get another"
        ) from error
    if told.returncode or not told.stdout.strip():
        words = (told.stderr or told.stdout).strip().splitlines()[-1:]
        why = f"has no vllm: {' '.join(words) or 'it is silent'}"
        raise ConfigError(f"--vllm-python: {python} {why}; install it there")
    return told.stdout.strip()


def remarks(config: ServerConfig) -> Iterator[str]:
    """Warnings for the log: of another version, and of flags that change nothing. Raises `ConfigError`."""
    version = version_of(find(config))
    if not version.startswith(tuple(f"{each}." for each in SPOKEN)):
        spoken = " and ".join(SPOKEN)
        yield f"--engine-core: got vllm {version}; the API servers speak as vLLM {spoken} do, which may differ"
    usual = ServerConfig()
    given = [as_flag(name) for name in OF_OUR_ENGINE_CORE if getattr(config, name) != getattr(usual, name)]
    if given:
        yield f"{', '.join(given)}: accepted, but changes nothing under --engine-core vllm"
    yield "--engine-core vllm: its front ends can't change, so the server ends if an API server dies, as vLLM does"


def command(config: ServerConfig, port: int) -> list[str]:
    """`vllm serve --headless`, for an engine core that shakes hands at this port of 127.0.0.1."""
    passed = {name: getattr(config, name) for name in PASSED_ON}
    if config.block_size != ServerConfig().block_size:
        passed["block_size"] = config.block_size
    at = {"data_parallel_address": "127.0.0.1", "data_parallel_rpc_port": port}
    words = words_for(passed | at, ServerConfig)
    return [str(find(config)), "-m", MODULE, "serve", str(config.model), "--headless", *words]


def environment(config: ServerConfig, directory: str, given: dict[str, str]) -> dict[str, str]:
    """For that program: no report of its use, no download, no pickle. What it writes goes into `directory`, the
    server's own, which is removed at the end; but not what it has compiled."""
    compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")  # as without our TMPDIR
    usual = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "TORCHINDUCTOR_CACHE_DIR": compiled}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": config.log_level.upper()}
    forced = {"VLLM_ALLOW_INSECURE_SERIALIZATION": "0", "VLLM_RPC_BASE_PATH": directory, "TMPDIR": directory}
    return usual | given | quiet | forced
