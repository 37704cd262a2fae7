"""Writes a sample and raises."""

from lab_support.experiments.program import emit

emit("before the error")
raise RuntimeError("as expected of it")
