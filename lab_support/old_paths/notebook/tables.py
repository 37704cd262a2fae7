"""Moved: lab_support.notebook.page.tables."""

from lab_support.old_paths import moved

moved(__name__)
