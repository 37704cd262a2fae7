"""The truth and the cost of a trace: `python -m tests.proofs.trace [--pairs 20] [--before CHECKOUT]`.

- 200 requests of 16 clients: the stages of each add up to what its client saw, on the same clock.
- The file for trace viewers opens in Chromium's own (the Performance panel of its developer tools).
- Tokens/s with --trace-dir over those without, by turns on two servers that run side by side, and tokens for a second
  of their CPU time, which other programs disturb less. Twenty pairs; the interval is that of the median by order
  statistics (the 6th and the 15th of 20: 95.9 %).
- The same without --trace-dir over a checkout from before there were traces, if one is named.
"""

from tests.in_jupyterlab import CHROMIUM
from tests.proofs import Row
from tests.proofs.trace.cost import PAIRS, against_rows, cost_rows, off_row
from tests.proofs.trace.stages import stages_row, traced_requests
from tests.proofs.trace.viewer import viewer_row


def prove(pairs: int = PAIRS, before: str | None = None) -> list[Row]:
    with traced_requests() as (folder, seconds):
        rows = [stages_row(folder, seconds)]
        if CHROMIUM:
            rows.append(viewer_row(folder))
    rows += [off_row(), *cost_rows(pairs)]
    return rows + (against_rows(before, pairs) if before else [])
