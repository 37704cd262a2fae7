"""The packages that the server's processes import, by the names of their modules.

`lab doctor` and `lab record` look for them before a server starts, because a failed start names only the first.
"""

SERVER_PACKAGES = (
    "torch",
    "numpy",
    "uvicorn",
    "uvloop",
    "httptools",
    "starlette",
    "zmq",
    "msgspec",
    "tokenizers",
    "prometheus_client",
    "setproctitle",
    "jinja2",
)
