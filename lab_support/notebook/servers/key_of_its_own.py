"""The key of a live server: a new one by default, because every user of a machine can connect to its loopback.

It travels in the environment, which only the same user can read, never on the command line, which all can
(/proc/PID/cmdline).
"""

import secrets
from collections.abc import Sequence
from typing import Any

from lab_support.api_key import VARIABLES, ApiKeyError, find_api_keys
from lab_support.config import ConfigError


def take_key(choices: dict[str, Any]) -> str | None:
    """Take `api_key` out of a server's choices: the key that it asks for, None if it is to ask for none.

    Without `api_key` and `api_key_file` it is a new one, whatever key this process's environment has: a server that the
    reader runs elsewhere keeps its key. Raises `ConfigError`.
    """
    file = choices.get("api_key_file")
    if "api_key" not in choices and file is None:
        return secrets.token_urlsafe(16)
    given = choices.pop("api_key", None)
    keys = (given,) if isinstance(given, str) else tuple(given or ())
    if len(keys) > 1:
        raise ConfigError(f"api_key: got {len(keys)} keys, expected one, because the environment carries one; give one")
    return _first(keys, file)


def _first(given: Sequence[str], file: str | None) -> str | None:
    try:
        return next(iter(find_api_keys(given, file, {})), None)
    except ApiKeyError as error:
        raise ConfigError(str(error)) from error


def in_environment(key: str | None) -> dict[str, str | None]:
    """Variables that give a process this key and no other."""
    return dict.fromkeys(VARIABLES) | {VARIABLES[0]: key}
