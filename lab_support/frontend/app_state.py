"""The state that all routes of one API server share, made once by `routes.build_app`."""

from dataclasses import dataclass, field
from typing import Protocol

from lab_support.boundary.start_choice import StartChoice
from lab_support.config import ServerConfig
from lab_support.frontend.http.body import BodyReader
from lab_support.frontend.http.errors import from_fatal, unavailable
from lab_support.frontend.http.memory import MemoryBudget
from lab_support.frontend.metrics.metrics import Metrics
from lab_support.frontend.request.prompts import PromptReader
from lab_support.frontend.request.served_model import ServedModel
from lab_support.frontend.routing.engine_client import EngineClient
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.frontend.trace.request_trace import Requests
from lab_support.model_folder import ModelFolder


@dataclass(frozen=True, slots=True)
class Identity:
    """The answering API server. `started_at`: seconds since 1970; `pids`: process ids by title."""

    api_server_index: int
    run_id: str
    version: str
    started_at: int
    pids: dict[str, int] = field(default_factory=dict)
    engine_cores_started_by: StartChoice = field(default_factory=StartChoice)

    @property
    def title(self) -> str:
        return f"api-{self.api_server_index}"


class InFlight(Protocol):
    """`boundary/counters.py`: this API server's own counts, and the sums over all of them."""

    requests_in_flight: int
    sequences_in_flight: int

    def total(self) -> int: ...

    def total_sequences(self) -> int: ...


@dataclass(frozen=True, slots=True)
class AppState:
    """Used in the API server's event loop only."""

    config: ServerConfig
    folder: ModelFolder
    tokenizer: Tokenizer
    engine_client: EngineClient
    counters: InFlight
    identity: Identity
    metrics: Metrics
    memory: MemoryBudget
    bodies: BodyReader
    prompts: PromptReader
    traces: Requests

    @property
    def model(self) -> ServedModel:
        """The served model, with the engine cores' limits, or, before these come, those of its folder and the flags."""
        folder, config = self.folder, self.config
        length = self.engine_client.max_model_len or config.max_model_len or folder.shape.context_length
        return ServedModel(
            config.model_name,
            length,
            folder.shape.vocab_size,
            end_token_ids=folder.end_token_ids,
            sampling=folder.sampling,
            all_names=config.model_names,
        )

    def check_alive(self) -> None:
        """Raises `ApiError` (503) if the server has to end, with the cause."""
        if self.engine_client.fatal is not None:
            raise from_fatal(self.engine_client.fatal)

    def check_ready(self) -> None:
        """Raises `ApiError` (503) if no engine core could compute an answer."""
        self.check_alive()
        if not self.engine_client.ready:
            raise unavailable("the engine cores are still starting", "not_ready")
