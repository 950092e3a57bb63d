"""What a generator of shapes found: inputs where the product and an independent reference differ."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One mismatch."""

    case: str
    """Description of the input, with the name of its file."""
    expected: str
    """The right value, by the reference."""
    found: str
    """What the product made of it."""
