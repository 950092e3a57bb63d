"""Seamless noise and pore textures, which make drawn surfaces look natural.

Knows tiles, how to sample them flat or over a sphere, and how to blend. Knows no fruit.
"""

# H×W pixels; p_3HW the point of the unit sphere that a pixel shows.

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

TILE_PX = 512
CELL_PX = 8  # tile pixels per noise cell: remap rounds coordinates to 1/32 pixel, which this makes 1/256 cell
PORE_PX = 16  # tile pixels from one pore to the next


@cache
def noise_tile() -> Floats:
    """Return smooth noise that tiles seamlessly: 64 × 64 cells, about -1 to 1."""
    cells = np.random.default_rng(1).uniform(-1, 1, (64, 64)).astype(np.float32)
    wrapped = np.pad(cells, 2, mode="wrap")
    grown = cv2.resize(wrapped, None, fx=CELL_PX, fy=CELL_PX, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(grown[2 * CELL_PX : -2 * CELL_PX, 2 * CELL_PX : -2 * CELL_PX])


@cache
def pore_tile() -> Floats:
    """Return the oil glands of the peel as a seamless tile: 32 × 32 pits of varying size, 0 outside, up to 1 inside."""
    rng = np.random.default_rng(2)
    dots = np.zeros((TILE_PX, TILE_PX), np.float32)
    rows, columns = np.mgrid[0:32, 0:32].reshape(2, -1) * PORE_PX
    rows = (rows + rng.integers(0, 13, rows.size)) % TILE_PX
    columns = (columns + rng.integers(0, 13, columns.size)) % TILE_PX
    dots[rows, columns] = rng.uniform(0.35, 1.0, rows.size)
    blurred = cv2.GaussianBlur(np.pad(dots, 32, mode="wrap"), (0, 0), 2.8)[32:-32, 32:-32]
    return np.ascontiguousarray(np.minimum(blurred / blurred.max() * 1.5, 1))


def sample(tile: Floats, x_HW: Floats, y_HW: Floats) -> Floats:
    """Sample a tile at these tile pixels, wrapping around, bilinear."""
    return np.asarray(cv2.remap(tile, x_HW, y_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)


def fractal(x_HW: Floats, y_HW: Floats, rng: np.random.Generator, *, octaves: int) -> Floats:
    """Return fractal noise, about -1 to 1: one cell per unit in the first octave, at a random offset of the tile."""
    total = np.zeros_like(x_HW)
    for octave in range(octaves):
        scale = np.float32(CELL_PX * 2**octave)
        dx, dy = rng.uniform(0, TILE_PX, 2).astype(np.float32)
        total += 0.5**octave * sample(noise_tile(), x_HW * scale + dx, y_HW * scale + dy)
    return total


class TriplanarTexture:
    """Tiles projected onto the unit sphere along three axes, each weighted where it is least stretched."""

    def __init__(self, p_3HW: Floats) -> None:
        squares = p_3HW * p_3HW
        weights = squares * squares * squares
        self._weights_3HW = weights / weights.sum(axis=0)
        self._angles_3HW = np.arcsin(p_3HW)  # equal angles, equal distances

    def project(self, tile: Floats, per_rad: float, rng: np.random.Generator) -> Floats:
        """Project a tile at per_rad tile pixels per radian, at a random offset: H×W."""
        offset = np.float32(rng.uniform(0, TILE_PX))
        x_3HW, y_3HW = self._angles_3HW[[1, 2, 0]], self._angles_3HW[[2, 0, 1]]
        sides = [
            weight * sample(tile, x * np.float32(per_rad) + offset, y * np.float32(per_rad))
            for weight, x, y in zip(self._weights_3HW, x_3HW, y_3HW, strict=True)
        ]
        return np.asarray(sides[0] + sides[1] + sides[2], np.float32)

    def noise(self, per_rad: float, rng: np.random.Generator) -> Floats:
        """Return one octave of noise with per_rad cells per radian: H×W, about -1 to 1."""
        return self.project(noise_tile(), per_rad * CELL_PX, rng)


def smooth(x_HW: Floats, low: float, high: float) -> Floats:
    """Return 0 below low, 1 above high, and a smooth transition between (smoothstep)."""
    share = np.clip((x_HW - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def mix(target_HWC: Floats, colour: Floats | Sequence[float], share_HW: Floats) -> None:
    """Blend a colour into the target, in place."""
    target_HWC += (np.asarray(colour, np.float32) - target_HWC) * share_HW[..., None]


def chance(rng: np.random.Generator, share: float) -> bool:
    """Return True in this share of calls."""
    return bool(rng.uniform() < share)
