"""Tests of the trace of one request in its API server."""
