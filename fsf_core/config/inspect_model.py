"""Options of `fsf inspect-model`."""

from dataclasses import dataclass

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InspectModelConfig:
    """Options of `fsf inspect-model`."""

    yaml: str | None = None
    """Write the document to this file too, ready for --model-config once it is filled in."""
