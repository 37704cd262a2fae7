"""What a notebook calls: `import lab_support.notebook as lab`. Nothing happens at import.

The kernel holds neither torch nor ZeroMQ sockets of ours: servers and loads are processes of their own.
`%load_ext lab_support.notebook` makes `%%python_process` known, and so does `lab.start`.

The names stand in `__init__.pyi`, and there alone. Each is imported when it is first asked for, because a cell's own
processes import `script` from here: they are to be small, and start in milliseconds.
"""

from typing import Any

from lab_support.old_paths import folder_of

__path__.append(folder_of(__name__))

try:
    import lazy_loader
except ModuleNotFoundError:
    pass  # another Python's process, made by `%%python_process --python`: it may import `script`, and has no packages
else:
    __getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext lab_support.notebook` calls."""
    from lab_support.notebook.cells import python_process

    python_process.load(shell)
