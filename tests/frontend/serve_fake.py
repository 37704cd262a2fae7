"""A process with an API server and a fake engine: prints its port, serves until its stdin ends.

For tests that need the HTTP side in processes of its own: `python -m tests.frontend.serve_fake INDEX [FIELD=VALUE …]`.
"""

import sys

from tests.fakes import FakeEngine
from tests.frontend.serving import serving


def main() -> None:
    index, *choices = sys.argv[1:]
    fields = dict(choice.split("=", 1) for choice in choices)
    with serving(FakeEngine(client_index=int(index)), api_server_index=int(index), **fields) as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
