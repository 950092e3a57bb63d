"""From which value on a statistic is an alarm: its distribution where nothing changed, drawn from the reference. Pure.

A draw makes a second sample of a reference that is itself uncertain: bin shares from a Dirichlet distribution around
the reference's counts (a finite sample does not know its own shares), then both samples anew at their sizes from these
shares. Of the statistic between the two, and between the reference as it is and the second, the larger counts: the
bins were fitted to the reference as it is.
"""

# B bins, D draws

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsf_core.analysis.drift.statistics import (
    SMOOTHING,
    Bins,
    Counts,
    jensen_shannon,
    presence,
    psi,
    reference_bins,
)

QUANTILE = 0.999
"""Of one statistic's draws: its limit."""

FAMILY_SHARE = 0.025
"""Largest share of draws in which any statistic of a comparison may exceed its limit; with many classes, all limits
are raised by one factor until this holds."""

MIN_PSI = 0.1
"""Smallest limit of PSI."""

MIN_JENSEN_SHANNON = MIN_PSI / (8 * float(np.log(2)))
"""Smallest limit of the Jensen-Shannon divergence in bits: what small shifts of PSI 0.1 have."""

MIN_ODDS_RATIO = 1.5
"""Smallest limit of presence, as the change of the odds that it is."""

PRIOR = 1.0
"""Added to every count for the shares of a draw. With 0.5, 5 of 20 comparisons of one distribution of 300 rare classes
were an alarm where the reference had 20 items; with 1 none."""

MIN_ITEMS = 5
"""Items on each side, below which nothing is an alarm."""

STATISTICS: Mapping[str, Callable[[Counts, Counts], NDArray[np.float64]]] = {
    "psi": psi,
    "js": jensen_shannon,
    "presence": presence,
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure in two samples."""

    name: str
    values: Mapping[str, float]
    """By statistic; empty where a sample has no values."""
    draws: Mapping[str, NDArray[np.float64]]
    """By statistic, its values where nothing changed; empty where a sample is too small for an alarm."""
    floors: Mapping[str, float]
    """By statistic, its smallest limit."""
    bins: Mapping[str, list[float]] | None = None
    """`cuts` between the bins above zero, and counts of every bin, `a` of the reference and `b`; the first is zero."""


def compare(
    name: str,
    reference: NDArray[np.float64],
    current: NDArray[np.float64],
    *,
    statistics: Sequence[str],
    draws: int,
    seed: int,
) -> Comparison:
    """Compare a figure in two samples.

    Args:
        name: of the figure; with the seed it seeds the draws, so that no figure depends on which others there are.
        reference: its values, one per item; NaN where an item has none.
        current: the same of the other run.
        statistics: names in STATISTICS.
        draws: number of draws.
        seed: of the draws.
    """
    reference, current = (values[np.isfinite(values)] for values in (reference, current))
    if not len(reference) or not len(current):
        return Comparison(name=name, values={}, draws={}, floors={})
    bins: Bins = reference_bins(reference)
    a, b = bins.of(reference), bins.of(current)
    values = {each: float(STATISTICS[each](a, b)) for each in statistics}
    shown = {"cuts": bins.cuts.tolist(), "a": a.tolist(), "b": b.tolist()}
    if min(len(reference), len(current)) < MIN_ITEMS:
        return Comparison(name=name, values=values, draws={}, floors={}, bins=shown)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    shares_DB = generator.dirichlet(a + PRIOR, draws)
    first_DB = generator.multinomial(len(reference), shares_DB)
    second_DB = generator.multinomial(len(current), shares_DB)
    null = {
        each: np.maximum(STATISTICS[each](first_DB, second_DB), STATISTICS[each](a, second_DB)) for each in statistics
    }
    floors = {"psi": MIN_PSI, "js": MIN_JENSEN_SHANNON, "presence": _least_presence(a)}
    return Comparison(
        name=name, values=values, draws=null, floors={each: floors[each] for each in statistics}, bins=shown
    )


def alarm_limits(comparisons: Sequence[Comparison]) -> list[dict[str, float]]:
    """Return the limits of every comparison, by statistic: none where a sample is too small.

    A limit is the QUANTILE of the draws, at least the floor, times the factor that keeps the share of false alarms of
    all comparisons together at FAMILY_SHARE; the factor is 1 for a few classes.
    """
    limits = [
        {each: max(one.floors[each], float(np.quantile(null, QUANTILE))) for each, null in one.draws.items()}
        for one in comparisons
    ]
    largest: NDArray[np.float64] | None = None
    for one, own in zip(comparisons, limits, strict=True):
        for each, null in one.draws.items():
            relative = null / own[each]
            largest = relative if largest is None else np.maximum(largest, relative)
    factor = 1.0 if largest is None else max(1.0, float(np.quantile(largest, 1 - FAMILY_SHARE)))
    return [{each: limit * factor for each, limit in own.items()} for own in limits]


def _least_presence(reference: Counts) -> float:
    """Return by how much the share of items above zero differs where its odds change by MIN_ODDS_RATIO."""
    above = (reference[1:].sum() + SMOOTHING) / (reference.sum() + 2 * SMOOTHING)
    odds = above / (1 - above)
    more, less = (changed / (1 + changed) for changed in (odds * MIN_ODDS_RATIO, odds / MIN_ODDS_RATIO))
    return float(min(more - above, above - less))
