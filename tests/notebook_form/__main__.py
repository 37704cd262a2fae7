"""The form of the notebooks, counted: `python -m tests.notebook_form [NN …]`. Exit code 1 if a bound is broken."""

import argparse
import sys
from collections.abc import Sequence

from lab_support.notebook.page.committed import find
from tests.notebook_form.bounds import broken, broken_together
from tests.notebook_form.form import Form
from tests.notebook_form.questions import Spread


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.notebook_form", description=__doc__)
    parser.add_argument("numbers", nargs="*", help="notebooks by number, 04 with 04a, 04_ without; all by default")
    forms = [Form(path) for path in find(parser.parse_args(words).numbers)]
    if not forms:
        print(f"got {' '.join(words)}, expected numbers of notebooks, such as 04", file=sys.stderr)
        return 1
    found = [told(form) for form in forms]
    together = broken_together(forms)
    print(*found, f"together: {Spread([asked for form in forms for asked in form.asked])}", sep="\n")
    print(*(f"    BROKEN {sentence}" for sentence in together), sep="\n", end="")
    return 1 if together or any(map(broken, forms)) else 0


def told(form: Form) -> str:
    """All figures of one notebook, and the bounds that it breaks."""
    lines = [_in_one_line(form), f"    {Spread(form.asked)}"]
    lines += [f"    minutes between code that the reader writes: {' · '.join(f'{gap:.1f}' for gap in form.gaps)}"]
    lines += [f"    {loop.heading[:44]:44} {loop.predictions} predictions, {loop.claims} claims, {loop.blanks} blanks"
              for loop in form.loops]  # fmt: skip
    return "\n".join([*lines, *(f"    BROKEN {sentence}" for sentence in broken(form))])


def _in_one_line(form: Form) -> str:
    return (
        f"{form.number:3} {form.cells} cells, {form.words:,} words, largest code cell {form.largest} lines, "
        f"{len(form.asked)} predictions, {len(form.loops)} loops, {form.variants} variants, "
        f"longest without writing {max(form.gaps):.1f} minutes"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
