"""Front ends before the same engine core: what a token and a request cost in each, and what their clients see."""
