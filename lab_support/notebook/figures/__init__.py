"""Pictures: they take what was measured, and measure nothing."""
