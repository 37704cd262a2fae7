"""Moved: lab_support.notebook.figures.memory_roads."""

from lab_support.old_paths import moved

moved(__name__)
