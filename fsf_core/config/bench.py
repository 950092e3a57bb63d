"""Options of `fsf bench`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.config.listing import ListOptions
from fsf_core.config.values import Names
from fsf_core.errors import ConfigError
from fsf_core.options import Precision, Provider


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchConfig(ListOptions):
    """Options of `fsf bench`."""

    bundle: str
    """A bundle that `fsf export` wrote."""
    manifest: str
    """What to score, as in `fsf score`, images always whole; items are taken from its beginning."""
    frames: int = 500
    """Score at most this many items; an image is one frame."""
    precision: Precision = "fp32"
    """Model precision to run. The bundle must hold it."""
    provider: Provider = "auto"
    """Execution provider; tensorrt is experimental. Anything but auto is a promise: nothing else is measured."""
    batch_frames: int | None = None
    """Frames per model call (default: as in `fsf score`)."""
    actors: int | None = None
    """Number of model actors, and of bare sessions (default: one per GPU, or one per CPU)."""
    threads: int = 1
    """CPU threads per session."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""

    def __post_init__(self) -> None:
        """Check the number of frames.

        Raises:
            ConfigError: it is below 1.
        """
        if self.frames < 1:
            raise ConfigError(f"--frames is {self.frames}, expected at least 1")
