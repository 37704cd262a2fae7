"""Moved: lab_support.notebook.servers.live_server."""

from lab_support.old_paths import moved

moved(__name__)
