"""Servers that lose a process: who notices, by what means, and what their clients get. Standard library only."""
