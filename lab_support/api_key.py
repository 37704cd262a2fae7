"""The API keys that clients may send: from a flag, a file or the environment.

All users of the machine can read a command line (/proc/PID/cmdline), but not a file without read permission or another
user's environment. White space at the ends of a key is stripped, because files end with a line feed, and clients' keys
are stripped, too. White space within a key is refused: a header can't carry a line feed, and a space means two keys.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLES = ("LAB_API_KEY", "VLLM_API_KEY")
_LARGEST = 65536  # bytes; a larger file is no key


class ApiKeyError(ValueError):
    """No usable key was found in the named place. The text names it."""


def find_api_keys(given: Sequence[str], file: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys, stripped; empty for a server without keys. Raises `ApiKeyError`."""
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
        raise ApiKeyError(f"--api-key-file: {path}: got bytes that are not UTF-8, expected a key as text") from error


def _checked(key: str, where: str) -> str:
    key = key.strip()
    if not key:
        raise ApiKeyError(
            f"{where}: got an empty key, expected at least one character; leave it out for a server without a key"
        )
    for character in key:
        if character.isspace() or ord(character) < 32 or ord(character) == 127:
            raise ApiKeyError(
                f"{where}: got a key that contains {character!r}, expected one without white space and control "
                "characters; give several keys as several words after --api-key"
            )
    return key
