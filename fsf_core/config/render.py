"""Options of `fsf render`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.config.values import Names
from fsf_core.options import Style


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Options of `fsf render`."""

    style: Style = "blend"
    """Blend the masks over the frames, or draw them alone."""
    legend: bool = False
    """Draw the class names and their shares into the videos."""
    clear_background: bool = False
    """Leave class 0 undrawn in a blend."""
    manifest: str | None = None
    """The manifest of the run, needed only where the videos' URIs hold a password or a signature: the run does not."""
    http_hosts: Names = ()
    """Web hosts that videos may have, as in `fsf score`."""
    ray_address: str | None = None
    """Address of a running Ray cluster (default: the cluster of `ray job submit`, or this machine)."""
