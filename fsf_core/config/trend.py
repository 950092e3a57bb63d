"""Options of `fsf trend`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrendConfig:
    """Options of `fsf trend`."""

    against: str | None = None
    """The reference run (default: the oldest pinned run of the series, else the oldest finished one)."""
    out: str | None = None
    """Folder for trend.json and trend.html (default: neither is written)."""
    last: int = 30
    """Number of nights of a series, from the newest on."""
    draws: int = 1000
    """Draws from the reference for each limit."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range.
        """
        for name, value, least in (("--last", self.last, 1), ("--draws", self.draws, 100), ("--seed", self.seed, 0)):
            if value < least:
                raise ConfigError(f"{name} is {value}, expected at least {least}")
