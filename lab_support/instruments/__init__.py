"""Running processes as an operator sees them: /proc, the kernel, HTTP. Imports nothing from the server."""

from lab_support.old_paths import folder_of

__path__.append(folder_of(__name__))
