"""The key that clients must show: from a flag, a file or the environment.

A command's words can be read by every user of the machine (/proc/PID/cmdline); a file has its permissions, and a
process's environment is its own user's. White space at the ends goes: files end with a line feed, and clients' keys
are stripped, too.
"""

from collections.abc import Mapping
from pathlib import Path

VARIABLES = ("LAB_API_KEY", "VLLM_API_KEY")
_LARGEST = 65536  # bytes of a file that is a key


class ApiKeyError(ValueError):
    """There is no key where one was named. The text says where."""


def find_api_key(given: str | None, file: str | None, environment: Mapping[str, str]) -> str | None:
    """The key, without white space at its ends; None for a server without one. Raises `ApiKeyError`."""
    if given is not None and file is not None:
        raise ApiKeyError("--api-key: got --api-key-file too, expected one of them")
    if file is not None:
        return _stripped(_read(Path(file)), f"--api-key-file: {file}")
    if given is not None:
        return _stripped(given, "--api-key")
    for name in VARIABLES:
        if name in environment:
            return _stripped(environment[name], name)
    return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode()
    except OSError as error:
        raise ApiKeyError(f"--api-key-file: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ApiKeyError(f"--api-key-file: {path}: got bytes that are no UTF-8, expected a key as text") from error


def _stripped(key: str, where: str) -> str:
    if not key.strip():
        raise ApiKeyError(
            f"{where}: got an empty key, expected at least one character; for a server without a key, leave it out"
        )
    return key.strip()
