"""Policy about processes, run by the launcher: start methods, restarts, replacements, what a dead server leaves."""
