"""Calls of NVIDIA's libraries by ctypes: their declarations, and the codes that they return."""
