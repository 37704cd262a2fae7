"""`lab record`: runs of experiments, and recordings with their origin."""
