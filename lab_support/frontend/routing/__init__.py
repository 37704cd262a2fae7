"""Sends requests to engine cores and delivers their tokens."""
