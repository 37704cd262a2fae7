"""The server at its limits: descriptors, memory, crowds of clients."""
