"""`lab record`: experiments, and recordings with where they come from."""
