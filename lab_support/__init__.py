"""A real multi-process GPU server, and the instruments and lessons that look inside it."""
