"""Policy about processes: the start rule, restarts, the runtime directory."""
