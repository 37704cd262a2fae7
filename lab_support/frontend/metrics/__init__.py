"""Prometheus metrics of a server, correct whichever API server is asked."""
