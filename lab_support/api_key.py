"""The keys that clients may show: from a flag, a file or the environment.

A command's words can be read by every user of the machine (/proc/PID/cmdline); a file has its permissions, and a
process's environment is its own user's. White space at the ends goes: files end with a line feed, and clients' keys
are stripped, too. White space within is refused: no client can send a line feed, and who sends a space means two keys.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLES = ("LAB_API_KEY", "VLLM_API_KEY")
_LARGEST = 65536  # bytes of a file that is a key


class ApiKeyError(ValueError):
    """There is no key where one was named. The text says where."""


def find_api_keys(given: Sequence[str], file: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys, without white space at their ends; none for a server without one. Raises `ApiKeyError`."""
    if given and file is not None:
        raise ApiKeyError("--api-key: got --api-key-file too, expected one of them")
    if file is not None:
        return (_checked(_read(Path(file)), f"--api-key-file: {file}"),)
    if given:
        return tuple(_checked(key, "--api-key") for key in given)
    for name in VARIABLES:
        if name in environment:
            return (_checked(environment[name], name),)
    return ()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode()
    except OSError as error:
        raise ApiKeyError(f"--api-key-file: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ApiKeyError(f"--api-key-file: {path}: got bytes that are no UTF-8, expected a key as text") from error


def _checked(key: str, where: str) -> str:
    key = key.strip()
    if not key:
        raise ApiKeyError(
            f"{where}: got an empty key, expected at least one character; for a server without a key, leave it out"
        )
    for character in key:
        if character.isspace() or ord(character) < 32 or ord(character) == 127:
            raise ApiKeyError(
                f"{where}: got a key with {character!r} within, expected one without white space and control "
                "characters; give several keys as several words after --api-key"
            )
    return key
