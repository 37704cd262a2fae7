"""Moved: lab_support.notebook.recordings.memory_over_time."""

from lab_support.old_paths import moved

moved(__name__)
