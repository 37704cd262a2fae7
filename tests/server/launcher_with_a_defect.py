"""The real command, whose launcher fails at SIGUSR1: `python -m tests.server.launcher_with_a_defect serve …`."""

import sys

from lab_support.__main__ import main
from lab_support.supervision.replacement import ApiServers


def rolling_restart(servers: ApiServers) -> None:
    servers.serving = 1 / 0  # type: ignore[assignment]


if __name__ == "__main__":
    ApiServers.rolling_restart = rolling_restart  # type: ignore[method-assign, assignment]
    sys.exit(main())
