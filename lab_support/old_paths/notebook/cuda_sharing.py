"""Moved: lab_support.notebook.recordings.cuda_sharing."""

from lab_support.old_paths import moved

moved(__name__)
