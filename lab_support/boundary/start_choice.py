"""The chosen start method of the engine cores. Every API server gets it, and reports it to clients."""

from dataclasses import dataclass

DEFAULT = "spawn"


@dataclass(frozen=True, slots=True)
class StartChoice:
    """A start method: asked for, by whom, the one used, and why. `reasons` is empty if the two are the same."""

    asked: str = DEFAULT
    asked_by: str = "default"
    method: str = DEFAULT
    reasons: tuple[str, ...] = ()

    @property
    def warning(self) -> str:
        """All reasons in one line; "" if there are none."""
        if not self.reasons:
            return ""
        return f"got {self.asked} by {self.asked_by}, using {self.method} instead. Reasons: {'; '.join(self.reasons)}"
