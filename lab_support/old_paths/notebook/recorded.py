"""Moved: lab_support.notebook.recordings.recorded."""

from lab_support.old_paths import moved

moved(__name__)
