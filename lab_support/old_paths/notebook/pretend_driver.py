"""Moved: lab_support.notebook.stages.pretend_driver."""

from lab_support.old_paths import moved

moved(__name__)
