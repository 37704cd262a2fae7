"""Everything that crosses from one process into another, one file for each way. Knows no model and no HTTP."""

from lab_support.old_paths import folder_of

__path__.append(folder_of(__name__))
