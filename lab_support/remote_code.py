"""--trust-remote-code: accepted if it changes nothing, because this server never runs a model folder's own code."""

import json
from pathlib import Path

from lab_support.config import ConfigError

FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def check_no_code(folder: Path) -> None:
    """Raises `ConfigError` if a file of the folder names code (transformers' `auto_map`)."""
    for name in FILES:
        if _names_code(folder / name):
            raise ConfigError(
                f"--trust-remote-code: {folder / name} names code of the folder's own (auto_map), which this server "
                "never runs; leave the flag out to use the server's code for the model, if it supports its architecture"
            )


def _names_code(path: Path) -> bool:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # the file's own reader reports what is wrong with it
    return isinstance(config, dict) and bool(config.get("auto_map"))
