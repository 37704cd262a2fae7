"""Every promise in full, on an otherwise idle machine: `make prove`, or `python -m tests.prove NAME…` for some.

Prints one table: asked, measured, met or not. Exit code 1 where a promise is not met.
`python -m tests.prove notebook 01` does all proofs of one notebook, and goes on where it was stopped.
"""

import importlib
import sys
import time

from tests.proofs import Row, notebook

PROOFS = (
    "suite", "others", "ratios", "kills", "hangups", "cells", "solutions", "xrays", "old_ipython",
    "departures", "crowds", "bodies", "fuzz", "replacements", "deaths", "fates", "ports", "trace", "prefixes", "paced",
    "vllm_rs", "watch", "notebooks", "gpu",
)  # fmt: skip


def main() -> int:
    if sys.argv[1:2] == ["notebook"]:
        return notebook.main(sys.argv[2:])
    names = sys.argv[1:] or list(PROOFS)
    rows: list[tuple[str, Row]] = []
    for name in names:
        begun = time.monotonic()
        print(f"… {name}", file=sys.stderr, flush=True)
        found = importlib.import_module(f"tests.proofs.{name}").prove()
        rows += [(name, row) for row in found]
        print(f"… {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print("| proof | asked | measured | met |\n| --- | --- | --- | --- |")
    for name, row in rows:
        print(f"| {name} | {row.asked} | {row.measured} | {'yes' if row.met else 'NO'} |")
    return 0 if all(row.met for _, row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
