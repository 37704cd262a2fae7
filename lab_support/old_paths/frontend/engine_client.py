"""Moved: lab_support.frontend.routing.engine_client."""

from lab_support.old_paths import moved

moved(__name__)
