"""The launcher's policy about processes: start methods, restarts, replacements, cleaning up after dead servers."""
