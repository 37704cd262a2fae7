"""Moved: lab_support.instruments.record.recordings."""

from lab_support.old_paths import moved

moved(__name__)
