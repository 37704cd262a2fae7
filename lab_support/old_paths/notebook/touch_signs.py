"""Moved: lab_support.notebook.recordings.touch_signs."""

from lab_support.old_paths import moved

moved(__name__)
