"""The notebooks as they are committed: where they are, and which."""

from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"


def find(numbers: list[str]) -> list[Path]:
    """The notebooks with these numbers, of two digits, 04a_… with 04_…; all without any."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]*.ipynb"))
    whole = tuple(number for number in numbers if len(number) >= 2)
    return [path for path in paths if not numbers or path.name.startswith(whole)]
