"""The start method of the engine cores as it was chosen: told to every API server, which tells its clients."""

from dataclasses import dataclass

DEFAULT = "spawn"


@dataclass(frozen=True, slots=True)
class StartChoice:
    """What was asked for and by whom, what it became, and why. `reasons` is empty where the wish was granted."""

    asked: str = DEFAULT
    asked_by: str = "default"
    method: str = DEFAULT
    reasons: tuple[str, ...] = ()

    @property
    def warning(self) -> str:
        """All reasons in one line; "" where there is nothing to say."""
        if not self.reasons:
            return ""
        return f"got {self.asked} by {self.asked_by}, using {self.method} instead. Reasons: {'; '.join(self.reasons)}"
