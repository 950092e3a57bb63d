"""The space in which frames are near or far: standardised class ratios and input figures. Knows arrays only."""

# N candidates, K classes, D dimensions

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.analysis.selection.candidates import Candidates, Floats
from fsf_core.analysis.selection.class_figures import ClassFigures

NEIGHBOUR = 5
"""The distance to the neighbour of this rank is how far an item is from the others."""

REFERENCE = 2_000
"""Most candidates that distances are measured to: more are sampled. The fifth of 2,000 is a share of 0.25 %."""

CHUNK_ROWS = 4_096
"""Candidates whose distances are in memory at once: 32 MB."""

NEAR = 0.5
"""Distance below which two candidates count as near duplicates; that of two drawn at random is about 2.

On 300 drawn oranges, the twenty most uncertain at least this far apart had as many wrong pixels as the twenty most
uncertain; farthest-first among the 40 most uncertain had 15 % fewer, and let more copies of one image through.
"""

NEAREST = 1e-3
"""Distance from which on duplicates are taken in their order."""

EVERY = slice(None)

Points = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Candidates as points."""

    z_ND: Points
    """Distance from the mean in standard deviations, in each dimension."""
    median_D: Points
    """Median of z_ND."""
    weight_D: Points
    """What a dimension is multiplied with: its group's dimensions together weigh 1."""
    names: tuple[str, ...]
    """Of the dimensions: `ratio.<class id>`, or an input figure."""

    def points(self, chosen: NDArray[Any] | slice = EVERY) -> Points:
        """Return the coordinates of some of the candidates."""
        return np.asarray(self.z_ND[chosen] * self.weight_D, np.float32)


NOWHERE = Space(
    z_ND=np.zeros((0, 1), np.float32),
    median_D=np.zeros(1, np.float32),
    weight_D=np.ones(1, np.float32),
    names=("",),
)
"""Where no distances are needed."""


def space_of(found: Candidates, classes: ClassFigures) -> Space:
    """Return the candidates as points.

    Square roots of the class ratios, and brightness, contrast, and the logarithms of sharpness, area and aspect ratio,
    each with mean 0 and variance 1. Columns without any variance have no dimension. The two groups weigh the same,
    whatever the number of classes.
    """
    by_class = {f"ratio.{number}": column for number, column in enumerate(np.sqrt(classes.ratio_NK).T)}
    groups = [_standardised(columns) for columns in (by_class, _inputs(found))]
    if not any(groups):
        return replace(NOWHERE, z_ND=np.zeros((len(found), 1), np.float32))
    z_ND = np.stack([column for group in groups for column in group.values()], axis=1)
    return Space(
        z_ND=z_ND,
        median_D=np.asarray(np.median(z_ND, axis=0), np.float32),
        weight_D=np.asarray([len(group) ** -0.5 for group in groups for _ in group], np.float32),
        names=tuple(name for group in groups for name in group),
    )


def _inputs(found: Candidates) -> dict[str, Floats]:
    """Return the input figures in the form in which they are compared."""
    figures = found.figures
    height, width = figures["height_px"], figures["width_px"]
    return {
        "brightness": figures["brightness"],
        "contrast": figures["contrast"],
        "sharpness": np.log1p(figures["sharpness"]),
        "area": np.log(np.maximum(height * width, 1)),
        "aspect": np.log(np.maximum(width, 1) / np.maximum(height, 1)),
    }


def _standardised(columns: Mapping[str, NDArray[np.floating[Any]]]) -> dict[str, Points]:
    """Return the columns with mean 0 and variance 1; unknown values are 0, constant columns are left out."""
    found = {}
    for name, column in columns.items():
        values = np.asarray(column, np.float64)
        known = values[np.isfinite(values)]
        deviation = known.std() if len(known) else 0.0
        if deviation > 1e-9 * max(1.0, np.abs(known).max(initial=0)):
            standard = (values - known.mean()) / deviation
            found[name] = np.where(np.isfinite(values), standard, 0).astype(np.float32)
    return found


def isolation(space: Space, *, seed: int) -> Floats:
    """Return how far every candidate is from the others: the distance to its fifth neighbour among a sample of them.

    Args:
        space: the candidates.
        seed: of the sample, which is drawn where there are more than REFERENCE candidates.
    """
    count = len(space.z_ND)
    chosen = np.arange(count)
    if count > REFERENCE:
        chosen = np.sort(np.random.default_rng(seed).choice(count, REFERENCE, replace=False))
    rank = min(NEIGHBOUR, len(chosen) - 1)
    if rank < 1:
        return np.zeros(count)
    reference = space.points(chosen)
    place = np.full(count, -1)
    place[chosen] = np.arange(len(chosen))
    found = np.empty(count)
    for start in range(0, count, CHUNK_ROWS):
        rows = slice(start, min(count, start + CHUNK_ROWS))
        squared = _squared_distances(space.points(rows), reference)
        own = place[rows]
        squared[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
        found[rows] = np.sqrt(np.partition(squared, rank - 1, axis=1)[:, rank - 1])
    return found


def _squared_distances(a_MD: Points, b_ND: Points) -> Points:
    squared = (a_MD**2).sum(1)[:, None] + (b_ND**2).sum(1)[None, :] - 2 * a_MD @ b_ND.T
    return np.asarray(np.maximum(squared, 0), np.float32)


def farthest_first(points_ND: Points, *, count: int, first: int) -> tuple[list[int], list[float]]:
    """Choose points one by one, each the farthest from those chosen before it (Gonzalez, 1985).

    Args:
        points_ND: the points; of equally far ones the first is taken.
        count: number to choose, at most that of the points.
        first: index of the point to begin with.

    Returns:
        Their indices in the order of choice, and the distance of each to the nearest one before it, 0 for the first.
    """
    chosen, distances = [first], [0.0]
    nearest = ((points_ND - points_ND[first]) ** 2).sum(1)
    while len(chosen) < count:
        nearest[chosen] = -1
        following = int(np.argmax(nearest))
        distances.append(float(np.sqrt(nearest[following])))
        chosen.append(following)
        nearest = np.minimum(nearest, ((points_ND - points_ND[following]) ** 2).sum(1))
    return chosen, distances


def best_apart(points_ND: Points, *, count: int) -> list[int]:
    """Choose the first points that are not near one that was chosen before.

    Near is closer than NEAR. Where too few points remain, half of that is near, and so on.

    Args:
        points_ND: the points, the best first.
        count: number to choose, at most that of the points.

    Returns:
        Their indices, in ascending order.
    """
    nearest = np.full(len(points_ND), np.inf)
    near, chosen = NEAR, list[int]()
    while len(chosen) < count:
        following = int(np.argmax(nearest >= near**2))
        if nearest[following] < near**2:
            near = near / 2 if near > NEAREST else 0.0
            continue
        chosen.append(following)
        nearest = np.minimum(nearest, ((points_ND - points_ND[following]) ** 2).sum(1))
        nearest[chosen] = -1
    return sorted(chosen)
