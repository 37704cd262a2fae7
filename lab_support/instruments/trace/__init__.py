"""Reads the trace that a server wrote under --trace-dir, and shows it: `lab trace DIR [REQUEST]`."""
