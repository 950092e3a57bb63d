"""Distances between two samples of one figure: bins of a reference, counts, PSI, Jensen-Shannon, presence. Pure."""

# B bins, D draws

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Bins of the values above zero, at the deciles of the reference."""

MIN_BIN_ITEMS = 5
"""Items of the reference in each of them: of fewer than 50 items there are fewer bins."""

SMOOTHING = 0.5
"""Added to every count, so that no share is zero."""

ATOM_WIDTH = 1e-5
"""Half width, relative to its value, of the bin of a value that the reference has many times: float noise of another
processor stays inside."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The bins of one figure: one for zero, and those between cuts."""

    cuts: NDArray[np.float64]
    """Ascending. A value above zero is in the bin of the first cut that is not below it."""

    @property
    def count(self) -> int:
        """Number of bins."""
        return len(self.cuts) + 2

    def of(self, values: NDArray[np.float64]) -> Counts:
        """Return how many values each bin holds: the first zero, the others the values above, ascending."""
        above = values[values > 0]
        counts = np.bincount(np.searchsorted(self.cuts, above), minlength=len(self.cuts) + 1)
        return np.concatenate([[len(values) - len(above)], counts]).astype(np.int64)


def reference_bins(values: NDArray[np.float64]) -> Bins:
    """Return the bins of a reference: ten at the deciles of its values above zero, and one for zero.

    A value that two or more deciles share has a bin of its own, so that a constant figure has three bins above zero:
    below, equal, above. Of fewer than 50 values above zero there are fewer bins, with MIN_BIN_ITEMS each.

    Args:
        values: finite, none negative.
    """
    above = values[values > 0]
    bins = min(BINS, len(above) // MIN_BIN_ITEMS)
    if bins < 2:  # noqa: PLR2004 - one bin has no edge
        return Bins(cuts=np.empty(0))
    edges, repeats = np.unique(np.quantile(above, np.arange(1, bins) / bins), return_counts=True)
    atoms = edges[repeats > 1]
    single = edges[repeats == 1]
    cuts = np.concatenate([single, atoms * (1 - ATOM_WIDTH), atoms * (1 + ATOM_WIDTH)])
    return Bins(cuts=np.unique(cuts))


def psi(a: Counts, b: Counts) -> NDArray[np.float64]:
    """Return the population stability index of two count vectors [..., B], with SMOOTHING added to every count."""
    p, q = (_shares(counts + SMOOTHING) for counts in (a, b))
    return np.asarray(((q - p) * np.log(q / p)).sum(-1))


def jensen_shannon(a: Counts, b: Counts) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence of two count vectors [..., B] in bits, 0 to 1; nothing is added to them."""
    p, q = _shares(a), _shares(b)
    m = (p + q) / 2
    # 0 log 0 is 0
    terms = [np.where(x > 0, x * np.log2(np.where(x > 0, x, 1) / np.where(m > 0, m, 1)), 0) for x in (p, q)]
    return np.asarray(np.maximum((terms[0] + terms[1]).sum(-1) / 2, 0))


def presence(a: Counts, b: Counts) -> NDArray[np.float64]:
    """Return by how much the share of values above zero differs between two count vectors [..., B], 0 to 1."""
    above = [1 - _shares(counts)[..., 0] for counts in (a, b)]
    return np.asarray(np.abs(above[1] - above[0]))


def _shares(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    values = np.asarray(counts, np.float64)
    return np.asarray(values / np.maximum(values.sum(-1, keepdims=True), 1))
