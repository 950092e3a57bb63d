"""Options of `fsf evaluate`."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fsf_core.config.values import CLASS_NAMES, Names
from fsf_core.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of `fsf evaluate`."""

    classes: Annotated[tuple[str, ...], CLASS_NAMES] = ()
    """Class names in the order of the ids, for masks in a folder: a,"b, c" or @FILE (default: those of the run)."""
    palette: Names = ()
    """Colour of each class in painted labels, as rrggbb (default: those of the run, or PASCAL VOC's)."""
    by: Names = ()
    """Columns of the manifest to group by; each combination of their values gets metrics of its own."""
    out: str | None = None
    """Write the metrics to this JSON file too."""
    draws: int = 1000
    """Samples of items behind the intervals; 0 for no intervals."""
    seed: int = 0
    """Seed of the samples."""
    max_failed_share: float = 0.0
    """Share of labels that may fail before the exit code is 3."""
    http_hosts: Names = ()
    """Web hosts that labels of a manifest may have, as in `fsf score`."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: one is out of range, or names are equal.
        """
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"--classes is {','.join(self.classes)}, expected names of which no two are equal")
        if not 0 <= self.draws <= MAX_DRAWS:
            raise ConfigError(f"--draws is {self.draws}, expected 0 to {MAX_DRAWS}")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}, expected 0 or above")
        if not 0 <= self.max_failed_share <= 1:
            raise ConfigError(f"--max-failed-share is {self.max_failed_share}, expected 0 to 1")


MAX_DRAWS = 100_000
"""More samples do not change an interval that people can see."""
