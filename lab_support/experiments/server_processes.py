"""13. The real server on a GPU: which of its processes hold it, and what does each one weigh?

Two API servers, and two engine cores on the one GPU; every process has had work before it is examined.
Samples: `server`, and for each process `process`: its device files, mapped libraries of NVIDIA and torch, threads,
host memory; `gpu` has NVML's count of GPU memory by process.
"""

import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

from lab_support.experiments.gpu_memory import look, nvidia_smi_says, open_gpu_memory
from lab_support.experiments.idle_forked_child import inherited
from lab_support.experiments.program import emit, start
from lab_support.experiments.served import Served, server

LIBRARIES = re.compile(r"/(libcuda|libcudart|libnvidia-ml|libtorch|libtorch_cuda|libtorch_cpu)[-.]\S*so")
REQUESTS = 8


def main() -> int:
    options = start(__doc__ or "", engine_cores=2)
    memory = open_gpu_memory(options.device)
    flags = ["--device", options.device, "--data-parallel-size", str(options.engine_cores)]
    flags += ["--num-gpu-blocks-override", "2048"]  # otherwise the first engine core takes the memory of the second
    before = look(memory)
    with server(*flags, seconds=options.seconds - 10) as served:
        for _ in range(REQUESTS):
            ask(served)
        emit("server", flags=flags, before=before, gpu=look(memory), nvidia_smi=nvidia_smi_says(),
             details=served.details, pids=served.pids)  # fmt: skip
        for role, pid in sorted(served.pids.items()):
            emit("process", role=role, pid=pid, **inherited(pid), libraries=libraries(pid), host_memory=sizes(pid))
    return 0


def ask(served: Served) -> None:
    """Ask for one short completion over a new connection, so that any API server may get it."""
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 4}).encode()
    head = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{served.url}/v1/completions", body, head), timeout=60).read()


def libraries(pid: int) -> list[str]:
    """Names, without version, of the libraries in `LIBRARIES` that `pid` has mapped."""
    return sorted({found.group(1) for found in LIBRARIES.finditer(Path(f"/proc/{pid}/maps").read_text())})


def sizes(pid: int) -> dict[str, Any]:
    """Bytes of `pid` by its smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss": kilobytes["Rss"] * 1024, "pss": kilobytes["Pss"] * 1024, "uss": private * 1024}


if __name__ == "__main__":
    sys.exit(main())
