"""Moved: lab_support.supervision.start_rule."""

from lab_support.old_paths import moved

moved(__name__)
