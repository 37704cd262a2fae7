"""Moved: lab_support.notebook.stages.shared_memory."""

from lab_support.old_paths import moved

moved(__name__)
