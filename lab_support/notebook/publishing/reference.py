"""`python -m lab_support.notebook.publishing.reference` writes `notebooks/reference.md`: all that cells may call."""

import sys

from lab_support.notebook.moves.reference import as_markdown
from lab_support.notebook.page.committed import NOTEBOOKS

PAGE = NOTEBOOKS / "reference.md"


def main() -> int:
    PAGE.write_text(as_markdown(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
