"""Not an experiment: asks torch and the driver about this machine, for a recording's provenance and for refusals.

Samples: `driver`, `torch`. It is a program of its own, because asking torch initialises CUDA.
"""

import importlib.util
import sys

from lab_support.experiments.cuda.cuda_driver import Driver
from lab_support.experiments.gpu_memory import nvidia_smi_says
from lab_support.experiments.program import attempt, emit, start

PROPERTIES = "--query-gpu=name,driver_version,memory.total,persistence_mode,compute_mode,mig.mode.current"


def main() -> int:
    options = start(__doc__ or "")
    emit("driver", **attempt(_driver), properties=nvidia_smi_says(PROPERTIES))
    if importlib.util.find_spec("torch") is None:
        emit("torch", ok=False, text="torch is not installed")
    else:
        emit("torch", **attempt(lambda: _torch(options.device)))
    return 0


def _driver() -> dict[str, object]:
    driver = Driver()
    return {"init": driver.init(), "version": driver.version(), "device_count": driver.device_count()}


def _torch(device: str) -> dict[str, object]:
    import torch

    facts = {"version": torch.__version__, "cuda": torch.version.cuda or "", "available": torch.cuda.is_available()}
    if not facts["available"] or device == "cpu":
        return facts
    properties = torch.cuda.get_device_properties(0)
    return facts | {
        "gpu": properties.name,
        "gpus": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
    }


if __name__ == "__main__":
    sys.exit(main())
