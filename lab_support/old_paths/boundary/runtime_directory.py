"""Moved: lab_support.supervision.runtime_directory."""

from lab_support.old_paths import moved

moved(__name__)
