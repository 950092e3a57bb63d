"""Options of `fsf diff`."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fsf_core.config.values import Names
from fsf_core.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DiffConfig:
    """Options of `fsf diff`."""

    out: str | None = None
    """Folder for drift.json and drift.html (default: neither is written)."""
    bundle_b: str | None = None
    """The bundle of RUN_B: a sample of RUN_A's items is scored by it, which separates a new model from new data."""
    bundle_a: str | None = None
    """The bundle of RUN_A: the same the other way round, for where the sources of RUN_A are gone."""
    sample: int = 100
    """Number of items that are scored again."""
    pixels: Annotated[bool, Parameter(negative="--no-pixels")] = True
    """Compare the masks of items that both runs hold, which reads all of them."""
    draws: int = 1000
    """Draws from the reference for each limit."""
    seed: int = 0
    """Seed of the draws and of the sample."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range.
        """
        limits = (("--sample", self.sample, 1), ("--draws", self.draws, 100), ("--seed", self.seed, 0))
        for name, value, least in limits:
            if value < least:
                raise ConfigError(f"{name} is {value}, expected at least {least}")
