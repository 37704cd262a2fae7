"""Pictures: they draw measurements, and measure nothing."""
