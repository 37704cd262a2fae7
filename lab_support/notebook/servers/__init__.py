"""Servers and loads that a notebook starts and observes."""
