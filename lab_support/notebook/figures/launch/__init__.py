"""Figures of a launch: starts lost to a port, who waits for whom, and the lanes of processes."""
