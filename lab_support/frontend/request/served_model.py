"""The served model, as a request is checked against it."""

from dataclasses import dataclass, field

from lab_support.frontend.http.errors import ApiError
from lab_support.model_folder import SamplingDefaults


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the model can take, and how its makers want it to be sampled where a request says nothing.

    name: stands in answers; all_names are those that a client may say, where there are more. max_model_len: prompt plus
    output, in tokens. end_token_ids: no answer shows the one that ends it.
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
