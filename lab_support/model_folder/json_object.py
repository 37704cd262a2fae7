"""Reads a folder's JSON files as UTF-8 objects, and typed values from them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.config import ConfigError


class ModelFolderError(ConfigError):
    """The folder can't be served. The text says what was got, what was expected and what to do about it."""


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `ModelFolderError`, also if there is no such file."""
    parsed = read_json(path)
    if not isinstance(parsed, dict):
        raise ModelFolderError(f"{path}: got JSON that is not an object, expected an object; download the file again")
    return parsed


def read_object_if_there(path: Path) -> dict[str, Any]:
    """The same, but an empty object if there is no such file."""
    return read_object(path) if path.exists() else {}


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ModelFolderError(f"{path.parent}: got no {path.name}, expected one; give a whole model folder") from None
    except OSError as error:
        raise ModelFolderError(f"{path}: can't be read ({error.strerror}); make it readable") from None
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path}: got text that is not JSON ({error}); download the file again") from None


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """Reads typed values from a parsed JSON object; null counts as missing, as in transformers."""

    values: Mapping[str, Any]
    source: Path

    def size(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelFolderError(f"{self.source}: got {key} {value!r}, expected a whole number from 1; fix the file")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ModelFolderError(f"{self.source}: got {key} {value!r}, expected a number above 0; fix the file")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise ModelFolderError(f"{self.source}: got {key} {value!r}, expected true or false; fix the file")
        return value

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise ModelFolderError(f"{self.source}: got no {key}, expected one; give a complete {self.source.name}")
        return default if value is None else value
