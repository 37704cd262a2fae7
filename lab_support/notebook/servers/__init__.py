"""Servers and loads that a notebook starts, and what it sees of them."""
