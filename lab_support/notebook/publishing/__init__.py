"""Notebooks executed and committed, and readers' own copies."""
