"""The committed notebooks: their folder, and how to find them by number."""

from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"


def find(numbers: list[str]) -> list[Path]:
    """The notebooks with these two-digit numbers, "04" with 04a_… as well; without numbers, all of them."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]*.ipynb"))
    whole = tuple(number for number in numbers if len(number) >= 2)
    return [path for path in paths if not numbers or path.name.startswith(whole)]
