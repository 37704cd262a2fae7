"""The functions that notebooks call: `import lab_support.notebook as lab`. Importing it has no side effects.

The kernel holds neither torch nor ZeroMQ sockets of ours: servers and loads are processes of their own.
`%load_ext lab_support.notebook` makes `%%python_process` known, and so does `lab.start`.

Only `__init__.pyi` lists the names. Each is imported at its first use, because a cell's own processes import `script`
from here, and must be small and start in milliseconds.
"""

from typing import Any

from lab_support.old_paths import folder_of

__path__.append(folder_of(__name__))

try:
    import lazy_loader
except ModuleNotFoundError:
    pass  # a process of `%%python_process --python`: another Python, which may import `script` but has no packages
else:
    __getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext lab_support.notebook`."""
    from lab_support.notebook.cells import magic
    from lab_support.notebook.moves import blanks

    magic.load(shell, blanks.fill)
