"""Moved: lab_support.notebook.stages.torch_guard."""

from lab_support.old_paths import moved

moved(__name__)
