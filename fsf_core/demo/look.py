"""Colours and shapes of defects, as far as they vary. Paints nothing."""

# Colours are BGR from 0 to 255.

from dataclasses import dataclass

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How defects look. The defaults are those of the demo; training varies them."""

    specks: int = 9
    """Specks of dirt on the peel."""
    burnt: Colour = (38, 88, 142)
    burnt_light: Colour = (50, 128, 178)
    straw: Colour = (138, 186, 208)
    """Of bleached parts of sunburn."""
    rim: float = 0.8
    """Strength of the dark rim of sunburn, 0 to 1."""
    frayed: float = 0.0
    """How much the edge of sunburn dissolves into speckles."""
    spots: tuple[int, int] = (4, 10)
    """Least number of ulcers in a cluster, and the number that is not reached."""
    spread: float = 2.6
    """Extent of a cluster in sizes of a spot."""
    crater: Colour = (36, 52, 78)
    ring: Colour = (92, 114, 140)
    rings: float = 0.7
    """Strength of the rings, 0 to 1."""
    halo: float = 0.6
    """Strength of the green around ulcers, 0 to 1."""
    scar: Colour = (44, 78, 124)
    silver: Colour = (112, 142, 162)


DEMO_LOOK = Look()
