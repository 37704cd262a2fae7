"""The imports of an API server's own code: start-up time and memory are figures of the course."""

import subprocess
import sys

# torch and its kin would cost a second and 200 MB each; zmq and uvicorn have other rooms; jinja2 waits for a chat.
HEAVY = ("torch", "transformers", "numpy", "zmq", "uvicorn", "requests", "httpx", "pydantic", "jinja2", "IPython")


def test_the_http_side_is_light() -> None:
    program = (
        "import sys, lab_support.frontend.routes, lab_support.frontend.text.tokenizer\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
