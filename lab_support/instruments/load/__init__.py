"""`lab load`: the load generator and its report."""
