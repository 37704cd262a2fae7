"""A real multi-process GPU server, and the instruments and lessons that look inside it."""

__version__ = "0.1.0"
