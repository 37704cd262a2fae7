"""Look and types of all code, in notebooks too: `make check`, in seconds.

The three run at once. Exit code 1 where one complains; only those say anything. The tests run the same list
(tests/repository/test_style.py).
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS = {
    "rules": ["ruff", "check", "--no-cache", "lab_support", "tests", "notebooks", "data"],
    "format": ["ruff", "format", "--check", "--no-cache", "lab_support", "tests", "data"],
    "types": ["mypy"],
}


def started(name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *CHECKS[name]]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> int:
    runs = {name: started(name) for name in CHECKS}
    outputs = {name: run.communicate()[0] for name, run in runs.items()}
    failed = [name for name, run in runs.items() if run.returncode]
    for name in failed:
        print(f"{name}: {' '.join(CHECKS[name])}\n{outputs[name]}")
    print(", ".join(f"{name} {'FAILED' if name in failed else 'ok'}" for name in CHECKS))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
