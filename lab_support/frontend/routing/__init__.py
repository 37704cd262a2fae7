"""Requests to engine cores, and their tokens back."""
