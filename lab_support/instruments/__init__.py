"""What an operator can see of running processes: /proc, the kernel, HTTP. Imports nothing of the server."""

from lab_support.old_paths import folder_of

__path__.append(folder_of(__name__))
