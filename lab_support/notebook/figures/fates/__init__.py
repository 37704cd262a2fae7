"""Fates of servers that lost a process: read from results and recordings, and drawn as a matrix."""
