"""The class ratios and probabilities of the candidates, as matrices, streamed from class_stats."""

# N candidates, K classes

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core.analysis.selection.candidates import BATCH_ROWS, Candidates, Floats
from fsf_core.runs import RunReader


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """What class_stats has of each candidate."""

    ratio_NK: NDArray[np.float32]
    probability_NK: NDArray[np.float32]
    """Mean probability of the class where it is the most probable one; NaN where it is nowhere."""

    def take(self, chosen: NDArray[Any]) -> "ClassFigures":
        """Return the figures of some of the candidates."""
        return ClassFigures(ratio_NK=self.ratio_NK[chosen], probability_NK=self.probability_NK[chosen])


NO_CLASSES = ClassFigures(ratio_NK=np.zeros((0, 0), np.float32), probability_NK=np.zeros((0, 0), np.float32))
"""Where no class figures are needed."""


def read_class_figures(run: RunReader, found: Candidates) -> ClassFigures:
    """Read the class ratios and mean probabilities of the candidates.

    Raises:
        OutputError: a committed file is missing or damaged.
    """
    shape = (len(found), len(run.classes))
    ratio_NK, probability_NK = np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32)
    columns = ["item_id", "frame_index", "class_id", "ratio", "mean_probability"]
    span = int(found.frame_N.max(initial=0)) + 1
    keys = found.item_N * span + found.frame_N
    for batch in run.iter_batches("class_stats", columns=columns, batch_rows=BATCH_ROWS):
        at, chosen = _rows_of(batch, found, keys, span)
        class_id = np.asarray(batch.column("class_id"))[chosen]
        fit = (class_id >= 0) & (class_id < shape[1])
        at, chosen, class_id = at[fit], chosen[fit], class_id[fit]
        ratio_NK[at, class_id] = _values(batch, "ratio")[chosen]
        probability_NK[at, class_id] = _values(batch, "mean_probability")[chosen]
    return ClassFigures(ratio_NK=ratio_NK, probability_NK=probability_NK)


def _rows_of(
    batch: pa.RecordBatch, found: Candidates, keys: NDArray[np.int64], span: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the candidates that rows of a batch belong to, and the indices of those rows."""
    encoded = batch.column("item_id").dictionary_encode()
    items = pc.fill_null(pc.index_in(encoded.dictionary, value_set=found.ids), -1).to_numpy(zero_copy_only=False)
    item = items.astype(np.int64)[np.asarray(encoded.indices)]
    frame = np.asarray(batch.column("frame_index"))
    known = np.flatnonzero((item >= 0) & (frame < span))
    wanted = item[known] * span + frame[known]
    at = np.searchsorted(keys, wanted)
    there = at < len(keys)
    there[there] = keys[at[there]] == wanted[there]
    return at[there], known[there]


def _values(batch: pa.RecordBatch, name: str) -> Floats:
    return np.asarray(batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
