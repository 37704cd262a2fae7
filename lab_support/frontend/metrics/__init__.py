"""Prometheus metrics of a server, right whichever API server is asked."""
