"""The served model, against which requests are checked."""

from dataclasses import dataclass, field

from lab_support.frontend.http.errors import ApiError
from lab_support.model_folder import SamplingDefaults


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model's limits, and its makers' sampling defaults for requests that give none.

    name: used in answers. all_names: the names that a client may use, if there are several. max_model_len: prompt plus
    output, in tokens. end_token_ids: tokens that end an answer and are not shown.
    """

    name: str
    max_model_len: int
    vocab_size: int
    end_token_ids: frozenset[int] = frozenset()
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    all_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.all_names or (self.name,)

    def check_name(self, name: str | None) -> None:
        """Raises `ApiError` (404) for the name of another model."""
        if name is not None and name != self.name and name not in self.all_names:
            served = " or ".join(map(repr, self.names))
            raise ApiError(404, f"model: got {name!r:.100}, served is {served}", "model", "model_not_found")
