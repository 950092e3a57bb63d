"""Options of `fsf inspect`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.config.values import Names


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Options of `fsf inspect`."""

    png: str | None = None
    """Draw the item's classes over its image, and write that to this file."""
    frame: int | None = None
    """Number of the frame of a video (default: the first one scored)."""
    clear_background: bool = False
    """Leave class 0 undrawn."""
    legend: bool = False
    """Add the class names with their colours and shares; an image too small for them becomes wider."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""
