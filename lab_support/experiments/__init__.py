"""Experiments about CUDA, forks and processes: one file each, a program that `lab record` runs in fresh processes.

They import nothing from the server, which they start as a user would, and nothing imports them. `python -m
lab_support.experiments.fork_after_cuda` runs one by hand and prints its samples. Experiments 1 to 9 need only torch and
the standard library. They print observations and check no expectations.
"""
