"""Options of `fsf select`."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fsf_core.config.values import Names
from fsf_core.errors import ConfigError
from fsf_core.options import SelectBy


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Options of `fsf select`."""

    by: SelectBy = "uncertainty"
    """What frames are chosen by: an unsure model, rare figures, change since --against, chance, or diversity alone."""
    n: int = 50
    """Number of images and video frames to choose."""
    out: str | None = None
    """Write them to this file, a list for `fsf score` that ends in .csv, .jsonl or .parquet (default: print only)."""
    against: str | None = None
    """Another run of the same items, which --by change compares masks with."""
    diverse: bool = True
    """Pass over near duplicates of what was chosen. Random choices are left as they fall."""
    min_gap_s: float = 1.0
    """Least time between two frames of one video, in seconds."""
    where: str | None = None
    """Choose only rows of the masks table that match, for example "camera == 'B' and brightness < 60"."""
    exclude: Names = ()
    """Lists of items to leave out, such as earlier choices. A row with a frame_index leaves out its part of a video."""
    unlabelled: Annotated[bool, Parameter(negative=())] = False
    """Leave out images and frames that the run has labels of."""
    seed: int = 0
    """Seed of random choices and samples."""

    def __post_init__(self) -> None:
        """Check the numbers, and that --against is given where it is used.

        Raises:
            ConfigError: one is out of range, or an option would have no effect.
        """
        if self.n < 1:
            raise ConfigError(f"--n is {self.n}, expected at least 1")
        if not 0 <= self.min_gap_s < float("inf"):  # nan is neither
            raise ConfigError(f"--min-gap-s is {self.min_gap_s}, expected 0 or more seconds")
        if self.by == "change" and self.against is None:
            raise ConfigError("found --by change without --against, expected both; name the run to compare with")
        if self.by != "change" and self.against is not None:
            raise ConfigError(f"found --against with --by {self.by}, expected --by change; leave one of them out")
