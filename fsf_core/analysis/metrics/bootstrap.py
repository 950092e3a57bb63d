"""Percentile intervals of figures by resampling whole items (Efron and Tibshirani 1993, chapter 13).

Items are drawn, not pixels or frames: the pixels of one picture and the frames of one video are no independent
observations, and intervals over them would be far too narrow. Memory grows with draws × items, one byte each, up to
WEIGHTS_BYTES, and not with items × classes.
"""

# B draws, N items, K classes

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fsf_core.analysis.metrics.tallies import SUMS, Figures, Floats, Rows, figures_of, sums_of

WEIGHTS_BYTES = 64 << 20
"""Most memory for the numbers of times that each item is drawn, at once."""
CHUNK_CELLS = 1 << 21
"""Most sums that are held at once: items × sums × classes."""
CHUNK_ITEMS = 4096
"""Most items whose sums are held at once."""


def resampled_figures(rows: Rows, num_classes: int, *, draws: int, seed: int) -> Figures:
    """Return the figures of `draws` samples, each of as many items as there are, drawn with replacement.

    The same rows and seed give the same samples, whatever their order in the table.
    """
    rng = np.random.default_rng(seed)
    present = np.flatnonzero(np.bincount(np.concatenate([rows.label_M, rows.predicted_M])))
    compact = Rows(
        item_ids=rows.item_ids,
        item_M=rows.item_M,
        label_M=np.searchsorted(present, rows.label_M),
        predicted_M=np.searchsorted(present, rows.predicted_M),
        counts_M4=rows.counts_M4,
    )
    sums_BSK = np.zeros((draws, SUMS, num_classes))
    done = 0
    for times_BN in _weights(rng, draws, len(rows.item_ids)):
        sums_BSK[done : done + len(times_BN)][..., present] = _weighted_sums(compact, times_BN, len(present))
        done += len(times_BN)
    return figures_of(sums_BSK)


def _weights(rng: np.random.Generator, draws: int, items: int) -> Iterator[NDArray[np.uint8]]:
    """Yield how often each item is in each sample, some samples at a time: uint8 [B, N]."""
    at_once = max(1, min(draws, WEIGHTS_BYTES // items))
    for first in range(0, draws, at_once):
        times_BN = np.empty((min(at_once, draws - first), items), np.uint8)
        for times_N in times_BN:
            # 8 bits are enough: of 256 items or more, one is drawn 256 times with probability 1e-500.
            times_N[:] = np.bincount(rng.integers(0, items, items, dtype=np.int32), minlength=items)
        yield times_BN


def _weighted_sums(rows: Rows, times_BN: NDArray[np.uint8], num_classes: int) -> Floats:
    """Return the sums of each sample: float64 [B, SUMS, K]."""
    items = len(rows.item_ids)
    step = max(1, min(CHUNK_ITEMS, CHUNK_CELLS // (SUMS * num_classes)))
    sums_BX = np.zeros((len(times_BN), SUMS * num_classes))
    for first in range(0, items, step):
        last = min(first + step, items)
        sums_NX = sums_of(rows, num_classes, first=first, last=last).reshape(last - first, -1)
        sums_BX += times_BN[:, first:last].astype(np.float64) @ sums_NX
    return sums_BX.reshape(len(times_BN), SUMS, num_classes)


def interval(samples_B: Floats, level: float) -> tuple[float, float] | None:
    """Return the central interval of the samples that have the figure; None if none has."""
    defined = np.sort(samples_B[~np.isnan(samples_B)])
    if not defined.size:
        return None
    at = np.array([(1 - level) / 2, (1 + level) / 2]) * (defined.size - 1)
    low, high = np.interp(at, np.arange(defined.size), defined)
    return float(low), float(high)
