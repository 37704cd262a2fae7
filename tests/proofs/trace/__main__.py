"""`python -m tests.proofs.trace`."""

import argparse

from tests.proofs import trace
from tests.proofs.trace import PAIRS, prove

parser = argparse.ArgumentParser(description=trace.__doc__)
parser.add_argument("--pairs", type=int, default=PAIRS)
parser.add_argument("--before", metavar="CHECKOUT")
given = parser.parse_args()
for row in prove(given.pairs, given.before):
    print(f"{'met' if row.met else 'NOT MET'}: {row.asked}: {row.measured}", flush=True)
