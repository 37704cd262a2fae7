"""Cells as processes of their own: `%%python_process`, its supervisor, and what they report."""
