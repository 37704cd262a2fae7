"""The paced engine keeps the recorded pace: `python -m tests.proofs.paced [--models 1B,8B] [--rows 1,8,64]`.

For each recorded model and number of rows: that many clients stream long answers to prompts of 512 tokens. While
exactly so many sequences decode, the engine core's own totals give the mean time from step to step, waiting and
Python included; it is compared with the recorded time of a step, interpolated here between the recorded contexts. The
share of a core that the engine core took meanwhile is its CPU time from /proc.
"""

import sys

from tests.proofs import Row
from tests.proofs.paced.window import measure
from tests.running_server import running_server

MODELS, ROWS = ("1B", "8B"), (1, 8, 64)
ROUNDS = 3
MOST_OFF = 0.03


def prove(models: tuple[str, ...] = MODELS, rows: tuple[int, ...] = ROWS, rounds: int = ROUNDS) -> list[Row]:
    made = []
    for model in models:
        with running_server(device=f"paced:{model}", api_server_count=1, log_level="warning") as server:
            for count in rows:
                kept = sorted((measure(server, model, count) for _ in range(rounds)), key=lambda each: each.off)
                middle = kept[len(kept) // 2]
                told = (
                    f"{middle.step_ms:.3f} ms, recorded {middle.recorded_ms:.3f} ({middle.off:+.1%}; "
                    f"{', '.join(f'{each.off:+.1%}' for each in kept)}); {middle.late:.0f} of {middle.steps:.0f} steps "
                    f"late; the engine core took {middle.share:.0%} of a core"
                )
                asked = f"paced:{model} keeps the recorded time of a step with {count} rows within {MOST_OFF:.0%}"
                made.append(Row(asked, told, abs(middle.off) <= MOST_OFF))
                print(f"  {asked}: {told}", file=sys.stderr, flush=True)
    return made
