"""Options of `fsf report`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.config.values import Names
from fsf_core.errors import ConfigError

_MOST_PICTURES, _SIDES_PX = 60, (64, 2048)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `fsf report`."""

    out: str | None = None
    """The HTML file to write (default: report.html in the run folder)."""
    against: str | None = None
    """Another run: show what changed since, with both masks of the most changed items."""
    pictures: int = 8
    """Pictures per question: least confident, darkest, blurriest, largest regions of a class, random sample …"""
    picture_px: int = 512
    """Longest side of a picture, in pixels. Fewer if all pictures together would exceed 8 MB."""
    manifest: str | None = None
    """The manifest of the run, needed only where the items' URIs hold a password or a signature: the run does not."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range, or --out has another suffix.
        """
        if not 0 <= self.pictures <= _MOST_PICTURES:
            raise ConfigError(f"--pictures is {self.pictures}, expected 0 to {_MOST_PICTURES}")
        if not _SIDES_PX[0] <= self.picture_px <= _SIDES_PX[1]:
            raise ConfigError(f"--picture-px is {self.picture_px}, expected {_SIDES_PX[0]} to {_SIDES_PX[1]}")
        if self.out is not None and not self.out.lower().endswith((".html", ".htm")):
            raise ConfigError(f"--out is {self.out!r}, expected a name that ends in .html")
