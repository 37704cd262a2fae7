"""Processes that a reader may not have, as facts that the rule on start methods takes: data/exhibits has them.

Each comes with its source, because the rule runs here, and these processes do not.

Taught in: 06_which_start_method
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from lab_support.supervision.start_rule import Seen

FILE = Path(__file__).parents[2] / "data" / "exhibits" / "processes_seen_elsewhere.json"
PLAIN = Seen("linux", "Linux version 6.18.44", 0, (), 0, torch_has_cuda=False, ray_actor="", jupyter_kernel=False)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """source: where it was recorded, captured or described. given: the names of the facts that are not a plain
    process's."""

    source: str
    seen: Seen
    given: tuple[str, ...]


def seen_elsewhere() -> dict[str, Elsewhere]:
    """All of them by name."""
    told = json.loads(FILE.read_text(encoding="utf-8"))["processes"]
    return {each["name"]: Elsewhere(each["from"], _seen(each["seen"]), tuple(each["seen"])) for each in told}


def _seen(facts: dict[str, object]) -> Seen:
    lists = {name: tuple(value) for name, value in facts.items() if isinstance(value, list)}
    return replace(PLAIN, **facts | lists)  # type: ignore[arg-type]
