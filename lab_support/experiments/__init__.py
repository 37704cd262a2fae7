"""Experiments about CUDA, forks and processes: one file each, a program that `lab record` runs in fresh processes.

A third tower beside the server and the notebooks: it imports nothing of the server and starts it as a user would,
and nothing imports it. `python -m lab_support.experiments.fork_after_cuda` runs one by hand and prints its samples.
Experiments 1 to 9 need torch and the standard library alone. What they print is what they saw; they expect nothing.
"""
