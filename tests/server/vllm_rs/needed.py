"""vLLM's front end, which these tests need: its path in VLLM_RUST_FRONTEND_PATH, or an installed vllm."""

import pytest

from lab_support.config import ConfigError
from lab_support.supervision.vllm_rs import find

try:
    find("vllm-rs")
    WHY = ""
except ConfigError as error:
    WHY = str(error)

WITH_VLLM_RS = [pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]
