"""--trust-remote-code: taken where it changes nothing, because this server never runs a model folder's own code."""

import json
from pathlib import Path

from lab_support.config import ConfigError

FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def check_no_code(folder: Path) -> None:
    """Raises `ConfigError` where a file of the folder names code (transformers' `auto_map`)."""
    for name in FILES:
        if _names_code(folder / name):
            raise ConfigError(
                f"--trust-remote-code: {folder / name} names code of the folder's own (auto_map), which this server "
                "never runs; leave the flag out to have the model computed by the server's code, if it knows its kind"
            )


def _names_code(path: Path) -> bool:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # whoever needs the file says what is wrong with it
    return isinstance(config, dict) and bool(config.get("auto_map"))
