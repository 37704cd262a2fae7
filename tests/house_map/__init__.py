"""Rooms, arrows, circles and words of `lab_support`, computed from its code: `python -m tests.house_map`."""
