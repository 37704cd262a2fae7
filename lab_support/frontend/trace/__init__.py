"""An API server's part of the trace: one object for each request, and a meter around the meter of each sequence."""
