"""Runs only in API servers: HTTP, text, requests, answers, and the way to an engine core."""

from lab_support.old_paths import folder_of

__path__.append(folder_of(__name__))
