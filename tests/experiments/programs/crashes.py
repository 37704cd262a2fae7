"""Writes a sample and reads address 0."""

import ctypes

from lab_support.experiments.program import emit

emit("before the crash")
ctypes.string_at(0)
