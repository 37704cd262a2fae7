"""Recordings of a GPU machine, as tables and figures."""
