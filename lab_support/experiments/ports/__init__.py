"""A race of launchers for ports: each finds one that is free, and its child binds it later."""
