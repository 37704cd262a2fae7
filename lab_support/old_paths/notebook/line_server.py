"""Moved: lab_support.notebook.stages.line_server."""

from lab_support.old_paths import moved

moved(__name__)
