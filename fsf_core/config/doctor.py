"""Options of `fsf doctor`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.config.score import ScoreConfig


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DoctorConfig(ScoreConfig):
    """Options of `fsf doctor`: those of `fsf score`, all optional."""

    manifest: str = ""
    """As in `fsf score` (default: no items are checked)."""
    out: str = ""
    """As in `fsf score`; an object is written there and removed again (default: nothing is written)."""

    def _require_one_model(self) -> None:
        if self.bundle or self.checkpoint:
            super()._require_one_model()
