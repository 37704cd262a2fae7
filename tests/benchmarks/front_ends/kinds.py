"""The front ends and the engines behind them. Nothing here runs."""

from dataclasses import dataclass, replace
from pathlib import Path

from lab_support.config import ConfigError
from lab_support.supervision.vllm_rs import find
from tests.benchmarks.peers.environments import python_of
from tests.benchmarks.peers.kinds import BY_NAME, OURS, VLLM, Peer

ENGINES = {"cpu": "--device cpu", "paced": "--device paced:8B"}
"""The engine core's device by name: it computes, or it takes the time of a recorded GPU and costs hardly any CPU."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """peer: how the server is started. of: in the title of each process of the front end. engines: before which."""

    peer: Peer
    of: str
    engines: tuple[str, ...] = tuple(ENGINES)

    @property
    def name(self) -> str:
        return self.peer.name

    def before(self, engine: str) -> Peer:
        return replace(self.peer, command=self.peer.command.replace("ENGINE", ENGINES[engine]))


def _ours(count: int, title: str, words: str = "") -> FrontEnd:
    command = (
        "{python} -m lab_support serve --model {model} --served-model-name {model} --port {port} ENGINE "
        f"--api-server-count {count} {words}"
    )
    name = "vllm-rs" if words else "lab"
    return FrontEnd(Peer(f"{name}-{count}", f"{title} × {count}", command, of=OURS), "lab:api-")


def _python_of_vllm(count: int) -> FrontEnd:
    """Before vLLM's own engine core on the CPU, because they speak with no other. A single one is the launcher, too."""
    given = BY_NAME[VLLM]
    command = given.command.replace("--api-server-count 2", f"--api-server-count {count}")
    peer = replace(given, name=f"vllm-{count}", title=f"vLLM's API servers × {count}", command=command, of=VLLM)
    return FrontEnd(peer, "vllm serve" if count == 1 else "VLLM::APIServer", ("cpu",))


FRONT_ENDS = (
    *(_ours(count, "our API servers") for count in (1, 2, 4)),
    *(_ours(count, "vllm-rs", "--frontend vllm-rs") for count in (1, 2)),
    *(_python_of_vllm(count) for count in (1, 2)),
)
NAMED = {each.name: each for each in FRONT_ENDS}


def why_not(front_end: FrontEnd) -> str:
    """Why it can't be measured here; "" if it can."""
    if front_end.peer.of == VLLM and not python_of(front_end.peer):
        return "no environment with vLLM's CPU build (--environments FOLDER)"
    return "no vllm-rs (VLLM_RUST_FRONTEND_PATH)" if front_end.name.startswith("vllm-rs") and not vllm_rs() else ""


def vllm_rs() -> Path | None:
    """The program, which is also vLLM's bench client."""
    try:
        return find("vllm-rs")
    except ConfigError:
        return None
