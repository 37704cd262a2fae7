"""PostgreSQL of the system's packages, as a server of another make to look at."""

import contextlib
import glob
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def postgresql() -> Iterator[tuple[subprocess.Popen, int]]:
    """The postmaster and its port on loopback, as the user `postgres`. Needs root; skips where there is none."""
    [programs] = glob.glob("/usr/lib/postgresql/*/bin")[-1:] or [""]
    if not programs:
        pytest.skip("no PostgreSQL here (Debian, Ubuntu: apt install postgresql)")
    with socket.create_server(("127.0.0.1", 0)) as free, tempfile.TemporaryDirectory(prefix="lt-") as directory:
        port = free.getsockname()[1]
        free.close()
        shutil.chown(directory, "postgres")
        as_postgres = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": directory}
        initdb = [f"{programs}/initdb", "-D", f"{directory}/data", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, **as_postgres)
        command = [f"{programs}/postgres", "-D", f"{directory}/data", "-k", directory, "-p", str(port)]
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **as_postgres, **nowhere) as postmaster:
            try:
                yield postmaster, port
            finally:
                postmaster.terminate()
