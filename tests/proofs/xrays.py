"""X-rays of servers that are not ours, against `ss`; and all instruments without privileges and without strace."""

from tests.proofs import Row
from tests.proofs.pytests import run

SERVERS = {
    "lab serve": "test_our_own_server",
    "gunicorn with 4 workers": "test_gunicorn",
    "PostgreSQL of the system's packages": "test_postgresql",
}
_FILE = "tests/instruments/test_xray.py"


def prove() -> list[Row]:
    rows: list[Row] = []
    for server, test in SERVERS.items():
        rows += run(f"`lab xray` on {server}: the listening socket has the holders that `ss` names", f"{_FILE}::{test}")
    alone = "an ordinary user, no strace: all works by fall-back, and says so"
    rows += run(
        alone, "tests/notebook/cells/test_ordinary_user.py", "tests/instruments", "-k", "ordinar or nobody or sandbox"
    )
    return [Row(row.asked, row.measured, row.met and "skipped" not in row.measured) for row in rows]
