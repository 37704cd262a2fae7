"""`python -m tests.proofs.paced`."""

import argparse

from tests.proofs import paced
from tests.proofs.paced import MODELS, ROUNDS, ROWS, prove

parser = argparse.ArgumentParser(description=paced.__doc__)
parser.add_argument("--models", default=",".join(MODELS))
parser.add_argument("--rows", default=",".join(map(str, ROWS)))
parser.add_argument("--rounds", type=int, default=ROUNDS)
given = parser.parse_args()
for row in prove(tuple(given.models.split(",")), tuple(map(int, given.rows.split(","))), given.rounds):
    print(f"{'met' if row.met else 'NOT MET'}: {row.asked}: {row.measured}")
